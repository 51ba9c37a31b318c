package differential;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Comparator;
import java.util.HexFormat;
import java.util.Properties;
import java.util.stream.Stream;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.Metric;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeaders;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.StepDriver;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.Topology;

/**
 * Runs plans on the JVM: one plan as a line of JSON on standard input, one result as a line of
 * JSON on standard output. The form of both is told in tests/differential/README.md.
 */
public final class Main {
  private static final ObjectMapper JSON = new ObjectMapper();
  private static final HexFormat HEX = HexFormat.of();

  public static void main(String[] arguments) throws Exception {
    PrintStream out = System.out;
    System.setOut(System.err);
    BufferedReader in = new BufferedReader(new InputStreamReader(System.in));
    for (String line = in.readLine(); line != null; line = in.readLine()) {
      out.println(JSON.writeValueAsString(run(JSON.readTree(line))));
      out.flush();
    }
  }

  private static ObjectNode run(JsonNode plan) throws Exception {
    ObjectNode result = JSON.createObjectNode();
    Properties config = new Properties();
    config.put(StreamsConfig.APPLICATION_ID_CONFIG, "app");
    config.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, "unused:9092");
    config.put(StreamsConfig.DEFAULT_KEY_SERDE_CLASS_CONFIG, Serdes.StringSerde.class.getName());
    config.put(StreamsConfig.DEFAULT_VALUE_SERDE_CLASS_CONFIG, Serdes.StringSerde.class.getName());
    plan.get("config").fields().forEachRemaining(e -> config.put(e.getKey(), e.getValue().asText()));
    Path directory = Files.createTempDirectory("differential");
    config.put(StreamsConfig.STATE_DIR_CONFIG, directory.toString());
    try {
      Topology topology;
      try {
        topology = new Plan(plan, config).build();
        result.put("describe", topology.describe().toString());
      } catch (RuntimeException error) {
        result.put("build_error", told(error));
        return result;
      }
      boolean everyRecord = plan.get("commit").asText().equals("every-record");
      ArrayNode outputs = result.putArray("outputs");
      ArrayNode dropped = result.putArray("dropped_after_step");
      StepDriver driver = new StepDriver(topology, config, everyRecord);
      try {
        for (JsonNode step : plan.get("steps")) {
          try {
            feed(driver, step);
          } catch (RuntimeException error) {
            result.put("error", told(error));
            result.put("error_step", outputs.size());
            outputs.add(records(driver));
            return result;
          }
          outputs.add(records(driver));
          dropped.add(dropped(driver));
        }
        result.set("stores", Stores.dump(driver, plan.get("stores"), JSON));
      } finally {
        try {
          driver.close();
        } catch (RuntimeException ignored) {
          // What a last commit left in a cache cannot be forwarded any more.
        }
      }
      return result;
    } finally {
      try (Stream<Path> files = Files.walk(directory)) {
        files.sorted(Comparator.reverseOrder()).forEach(path -> path.toFile().delete());
      }
    }
  }

  /** Tells an error with its innermost cause. */
  private static String told(Throwable error) {
    Throwable root = error;
    while (root.getCause() != null) {
      root = root.getCause();
    }
    StackTraceElement[] trace = root.getStackTrace();
    return error + " / " + root + (trace.length > 0 ? " at " + trace[0] + " " + trace[1] : "");
  }

  private static void feed(StepDriver driver, JsonNode step) {
    if (step.has("commit")) {
      driver.commitNow();
    } else if (step.has("advance_wall_clock_ms")) {
      driver.advance(step.get("advance_wall_clock_ms").asLong());
    } else {
      RecordHeaders headers = new RecordHeaders();
      if (step.has("headers")) {
        for (JsonNode header : step.get("headers")) {
          headers.add(header.get(0).asText(), bytes(header.get(1)));
        }
      }
      driver.pipe(step.get("topic").asText(), step.get("timestamp").asLong(), bytes(step.get("key")),
          bytes(step.get("value")), headers);
    }
  }

  private static ArrayNode records(StepDriver driver) {
    ArrayNode rows = JSON.createArrayNode();
    for (ProducerRecord<byte[], byte[]> record : driver.take()) {
      ObjectNode row = rows.addObject();
      row.put("topic", record.topic());
      if (record.partition() != null) {
        row.put("partition", record.partition());
      }
      row.put("key", hex(record.key()));
      row.put("value", hex(record.value()));
      row.put("timestamp", record.timestamp());
      if (record.headers().iterator().hasNext()) {
        ArrayNode headers = row.putArray("headers");
        for (Header header : record.headers()) {
          headers.addArray().add(header.key()).add(hex(header.value()));
        }
      }
    }
    return rows;
  }

  private static long dropped(StepDriver driver) {
    double total = 0;
    for (Metric metric : driver.metrics().values()) {
      if (metric.metricName().name().equals("dropped-records-total")) {
        total += (Double) metric.metricValue();
      }
    }
    return (long) total;
  }

  static String hex(byte[] data) {
    return data == null ? null : HEX.formatHex(data);
  }

  static byte[] bytes(JsonNode text) {
    return text == null || text.isNull() ? null : HEX.parseHex(text.asText());
  }
}
