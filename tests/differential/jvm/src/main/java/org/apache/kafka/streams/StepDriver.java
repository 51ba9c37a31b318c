package org.apache.kafka.streams;

import java.lang.reflect.Field;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import org.apache.kafka.clients.producer.MockProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.header.Headers;

/**
 * A TopologyTestDriver that commits only when it is told, and keeps every produced record in its
 * order over all topics.
 *
 * <p>It stands in the package of its parent for the sake of the field `task`; private members are
 * reached by reflection.
 */
public final class StepDriver extends TopologyTestDriver {
  private final boolean commitsEachRecord;
  private final MockProducer<byte[], byte[]> producer;
  private final List<ProducerRecord<byte[], byte[]>> produced = new ArrayList<>();

  public StepDriver(Topology topology, Properties config, boolean commitsEachRecord) {
    super(topology, config, Instant.ofEpochMilli(0));
    this.commitsEachRecord = commitsEachRecord;
    this.producer = field("producer");
  }

  /** Pipes one record and processes until nothing moves any more. */
  public void pipe(String topic, long timestamp, byte[] key, byte[] value, Headers headers) {
    TopicPartition partition = call("getInputTopicOrPatternPartition", topic);
    Map<String, TopicPartition> globals = field("globalPartitionsByInputTopic");
    if (partition != null) {
      call("enqueueTaskRecord", topic, partition, timestamp, key, value, headers);
      settle();
    }
    if (globals.get(topic) != null) {
      call("processGlobalRecord", globals.get(topic), timestamp, key, value, headers);
    }
  }

  /** Commits, which flushes caches, and processes what that sends on. */
  public void commitNow() {
    if (task != null) {
      call("commit", task.prepareCommit(true));
      task.postCommit(true);
    }
    settle();
  }

  /** Moves the wall clock and runs the punctuations that are due. */
  public void advance(long milliseconds) {
    org.apache.kafka.common.utils.Time time = field("mockWallClockTime");
    time.sleep(milliseconds);
    if (task != null) {
      task.maybePunctuateSystemTime();
      if (commitsEachRecord) {
        call("commit", task.prepareCommit(true));
        task.postCommit(true);
      }
    }
    settle();
  }

  /** Takes what was produced since the last call, in order. */
  public List<ProducerRecord<byte[], byte[]>> take() {
    collect();
    List<ProducerRecord<byte[], byte[]>> taken = new ArrayList<>(produced);
    produced.clear();
    return taken;
  }

  private void settle() {
    collect();
    if (task == null) {
      return;
    }
    org.apache.kafka.common.utils.Time time = field("mockWallClockTime");
    task.resumePollingForPartitionsWithAvailableSpace();
    task.updateLags();
    while (task.hasRecordsQueued() && task.isProcessable(time.milliseconds())) {
      task.process(time.milliseconds());
      task.maybePunctuateStreamTime();
      if (commitsEachRecord) {
        call("commit", task.prepareCommit(true));
        task.postCommit(true);
      }
      collect();
    }
  }

  private void collect() {
    produced.addAll(producer.history());
    call("captureOutputsAndReEnqueueInternalResults");
  }

  @SuppressWarnings("unchecked")
  private <T> T field(String name) {
    try {
      Field found = TopologyTestDriver.class.getDeclaredField(name);
      found.setAccessible(true);
      return (T) found.get(this);
    } catch (ReflectiveOperationException error) {
      throw new IllegalStateException(error);
    }
  }

  @SuppressWarnings("unchecked")
  private <T> T call(String name, Object... arguments) {
    for (Method method : TopologyTestDriver.class.getDeclaredMethods()) {
      if (method.getName().equals(name) && method.getParameterCount() == arguments.length) {
        try {
          method.setAccessible(true);
          return (T) method.invoke(this, arguments);
        } catch (InvocationTargetException error) {
          if (error.getCause() instanceof RuntimeException cause) {
            throw cause;
          }
          throw new IllegalStateException(error.getCause());
        } catch (ReflectiveOperationException error) {
          throw new IllegalStateException(error);
        }
      }
    }
    throw new IllegalStateException("no method " + name);
  }
}
