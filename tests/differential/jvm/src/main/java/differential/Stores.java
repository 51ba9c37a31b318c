package differential;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import org.apache.kafka.streams.KeyValue;
import org.apache.kafka.streams.StepDriver;
import org.apache.kafka.streams.kstream.Windowed;
import org.apache.kafka.streams.processor.StateStore;
import org.apache.kafka.streams.state.*;

/** What is in the named stores at the end, as a user reads it: through the cache. */
@SuppressWarnings({"unchecked", "rawtypes"})
final class Stores {
  static ObjectNode dump(StepDriver driver, JsonNode names, ObjectMapper json) {
    ObjectNode found = json.createObjectNode();
    if (names == null) {
      return found;
    }
    for (JsonNode name : names) {
      StateStore store = driver.getAllStateStores().get(name.asText());
      ArrayNode rows = found.putArray(name.asText());
      if (store instanceof ReadOnlyKeyValueStore plain) {
        try (KeyValueIterator all = plain.all()) {
          all.forEachRemaining(row -> add(rows, (KeyValue) row));
        }
      } else if (store instanceof ReadOnlyWindowStore windows) {
        try (KeyValueIterator all = windows.all()) {
          all.forEachRemaining(row -> add(rows, (KeyValue) row));
        }
      } else if (store instanceof ReadOnlySessionStore sessions) {
        for (String key : new String[] {"k0", "k1", "k2", "ka", "kb", "kc"}) {
          try (KeyValueIterator all = sessions.fetch(key)) {
            all.forEachRemaining(row -> add(rows, (KeyValue) row));
          }
        }
      } else if (store instanceof VersionedKeyValueStore versioned) {
        for (String key : new String[] {"k0", "k1", "k2", "ka", "kb", "kc"}) {
          VersionedRecord row = versioned.get(key);
          if (row != null) {
            rows.addArray().add(key).add(String.valueOf(row.value())).add(row.timestamp());
          }
        }
      }
    }
    return found;
  }

  private static void add(ArrayNode rows, KeyValue row) {
    ArrayNode shown = rows.addArray();
    if (row.key instanceof Windowed windowed) {
      shown.add(String.valueOf(windowed.key())).add(windowed.window().start()).add(windowed.window().end());
    } else {
      shown.add(String.valueOf(row.key));
    }
    if (row.value instanceof ValueAndTimestamp stamped) {
      shown.add(String.valueOf(stamped.value())).add(stamped.timestamp());
    } else {
      shown.add(String.valueOf(row.value));
    }
  }
}
