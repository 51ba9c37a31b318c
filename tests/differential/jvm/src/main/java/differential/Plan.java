package differential;

import com.fasterxml.jackson.databind.JsonNode;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Properties;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.TopologyConfig;
import org.apache.kafka.streams.kstream.*;
import org.apache.kafka.streams.state.Stores;

/** Builds the topology of a plan; plan.py does the same in Python. */
@SuppressWarnings({"unchecked", "rawtypes"})
final class Plan {
  private static final Serde<String> TEXT = Serdes.String();

  private final JsonNode plan;
  private final Properties config;
  private final List<Object> made = new ArrayList<>();
  private final StreamsBuilder builder;

  Plan(JsonNode plan, Properties config) {
    this.plan = plan;
    this.config = config;
    this.builder = new StreamsBuilder(new TopologyConfig(new StreamsConfig(config)));
  }

  Topology build() {
    for (JsonNode node : plan.get("nodes")) {
      made.add(make(node));
    }
    return builder.build(config);
  }

  private Object make(JsonNode node) {
    switch (node.get("op").asText()) {
      case "stream":
        return builder.stream(node.get("topic").asText());
      case "table":
        return table(node);
      case "global_table":
        return builder.globalTable(node.get("topic").asText(), store(node));
      case "filter":
        return named(node) == null ? stream(node).filter(Functions.PREDICATES.get(fn(node)))
            : stream(node).filter(Functions.PREDICATES.get(fn(node)), named(node));
      case "map_values":
        return stream(node).mapValues(Functions.VALUES.get(fn(node)));
      case "select_key":
        return stream(node).selectKey(Functions.KEYS.get(fn(node)));
      case "flat_map":
        return stream(node).flatMap((k, v) -> Functions.spread((String) k, (String) v));
      case "flat_map_values":
        return stream(node).flatMapValues(v -> Functions.letters((String) v));
      case "merge":
        return stream(node).merge(stream(node, 1));
      case "repartition":
        return node.has("name")
            ? stream(node).repartition(Repartitioned.as(node.get("name").asText()))
            : stream(node).repartition();
      case "to_table":
        return isStored(node) ? stream(node).toTable(store(node)) : stream(node).toTable();
      case "aggregate":
        return aggregate(node);
      case "cogroup":
        return cogroup(node);
      case "stream_join":
        return streamJoin(node);
      case "table_lookup":
        return tableLookup(node);
      case "global_lookup":
        return globalLookup(node);
      case "table_filter":
        return isStored(node)
            ? ktable(node).filter((Predicate) Functions.PREDICATES.get(fn(node)), store(node))
            : ktable(node).filter((Predicate) Functions.PREDICATES.get(fn(node)));
      case "table_map_values":
        return isStored(node)
            ? ktable(node).mapValues((ValueMapperWithKey) Functions.VALUES.get(fn(node)), store(node))
            : ktable(node).mapValues((ValueMapperWithKey) Functions.VALUES.get(fn(node)));
      case "windowed_map_values":
        return ktable(node).mapValues(v -> v == null ? null : Functions.cut(v + "!"));
      case "table_group":
        return tableGroup(node);
      case "table_join":
        return tableJoin(node);
      case "foreign_key_join":
        return foreignKeyJoin(node);
      case "suppress":
        return ktable(node).suppress(suppressed(node));
      case "to_stream":
        return ktable(node).toStream();
      case "windowed_to_stream":
        return ((KTable<Windowed<String>, String>) (KTable) ktable(node)).toStream((k, v) ->
            k.key() + "@" + k.window().start() + "-" + k.window().end());
      case "to":
        stream(node).to(node.get("topic").asText());
        return null;
      default:
        throw new IllegalStateException("no operation " + node.get("op"));
    }
  }

  private KTable table(JsonNode node) {
    String topic = node.get("topic").asText();
    if (node.has("history_ms")) {
      return builder.table(topic, Materialized.as(Stores.persistentVersionedKeyValueStore(
          node.get("store").get("name").asText(), Duration.ofMillis(node.get("history_ms").asLong()))));
    }
    return isStored(node) ? builder.table(topic, store(node)) : builder.table(topic);
  }

  private Object aggregate(JsonNode node) {
    KStream<String, String> stream = stream(node);
    KGroupedStream<String, String> grouped = node.has("by")
        ? stream.groupBy(Functions.KEYS.get(node.get("by").asText()))
        : stream.groupByKey();
    String kind = node.get("kind").asText();
    if (!node.has("windows")) {
      switch (kind) {
        case "count":
          return text(isStored(node) ? grouped.count(store(node)) : grouped.count());
        case "reduce":
          return isStored(node) ? grouped.reduce(Functions::reduce, store(node))
              : grouped.reduce(Functions::reduce);
        case "aggregate_or_drop":
          return isStored(node) ? grouped.aggregate(() -> "", Functions::addOrDrop, store(node))
              : grouped.aggregate(() -> "", Functions::addOrDrop);
        default:
          return isStored(node) ? grouped.aggregate(() -> "", Functions::add, store(node))
              : grouped.aggregate(() -> "", Functions::add);
      }
    }
    JsonNode windows = node.get("windows");
    if (windows.get("kind").asText().equals("session")) {
      SessionWindowedKStream<String, String> sessions = grouped.windowedBy(sessions(windows));
      if (emitsOnClose(node)) {
        sessions = sessions.emitStrategy(EmitStrategy.onWindowClose());
      }
      switch (kind) {
        case "count":
          return text(isStored(node) ? sessions.count(store(node)) : sessions.count());
        case "reduce":
          return isStored(node) ? sessions.reduce(Functions::reduce, store(node))
              : sessions.reduce(Functions::reduce);
        default:
          return isStored(node)
              ? sessions.aggregate(() -> "", Functions::add, (k, a, b) -> Functions.reduce(a, b), store(node))
              : sessions.aggregate(() -> "", Functions::add, (k, a, b) -> Functions.reduce(a, b));
      }
    }
    TimeWindowedKStream<String, String> windowed = windows.get("kind").asText().equals("sliding")
        ? grouped.windowedBy(sliding(windows))
        : grouped.windowedBy(times(windows));
    if (emitsOnClose(node)) {
      windowed = windowed.emitStrategy(EmitStrategy.onWindowClose());
    }
    switch (kind) {
      case "count":
        return text(isStored(node) ? windowed.count(store(node)) : windowed.count());
      case "reduce":
        return isStored(node) ? windowed.reduce(Functions::reduce, store(node))
            : windowed.reduce(Functions::reduce);
      default:
        return isStored(node) ? windowed.aggregate(() -> "", Functions::add, store(node))
            : windowed.aggregate(() -> "", Functions::add);
    }
  }

  private Object cogroup(JsonNode node) {
    CogroupedKStream<String, String> cogrouped = null;
    for (int at = 0; at < node.get("of").size(); at++) {
      KGroupedStream<String, String> grouped = node.has("by")
          ? ((KStream<String, String>) stream(node, at)).groupBy(Functions.KEYS.get(node.get("by").asText()))
          : stream(node, at).groupByKey();
      Aggregator<String, String, String> aggregator = at % 2 == 0 ? Functions::add : Functions::take;
      cogrouped = cogrouped == null ? grouped.cogroup(aggregator) : cogrouped.cogroup(grouped, aggregator);
    }
    if (!node.has("windows")) {
      return isStored(node) ? cogrouped.aggregate(() -> "", store(node)) : cogrouped.aggregate(() -> "");
    }
    JsonNode windows = node.get("windows");
    switch (windows.get("kind").asText()) {
      case "session":
        SessionWindowedCogroupedKStream<String, String> sessions = cogrouped.windowedBy(sessions(windows));
        return isStored(node)
            ? sessions.aggregate(() -> "", (k, a, b) -> Functions.reduce(a, b), store(node))
            : sessions.aggregate(() -> "", (k, a, b) -> Functions.reduce(a, b));
      case "sliding":
        return isStored(node) ? cogrouped.windowedBy(sliding(windows)).aggregate(() -> "", store(node))
            : cogrouped.windowedBy(sliding(windows)).aggregate(() -> "");
      default:
        return isStored(node) ? cogrouped.windowedBy(times(windows)).aggregate(() -> "", store(node))
            : cogrouped.windowedBy(times(windows)).aggregate(() -> "");
    }
  }

  private Object streamJoin(JsonNode node) {
    JoinWindows windows = JoinWindows.ofTimeDifferenceAndGrace(
        Duration.ofMillis(node.get("before").asLong()), Duration.ofMillis(node.get("grace").asLong()));
    windows = windows.after(Duration.ofMillis(node.get("after").asLong()));
    StreamJoined joined = StreamJoined.with(TEXT, TEXT, TEXT);
    if (node.has("name")) {
      joined = joined.withName(node.get("name").asText());
    }
    if (node.has("store_name")) {
      joined = joined.withStoreName(node.get("store_name").asText());
    }
    if (node.has("logging") && !node.get("logging").asBoolean()) {
      joined = joined.withLoggingDisabled();
    }
    KStream left = stream(node);
    KStream right = stream(node, 1);
    ValueJoiner<String, String, String> joiner = Functions::joined;
    switch (node.get("kind").asText()) {
      case "inner":
        return left.join(right, joiner, windows, joined);
      case "left":
        return left.leftJoin(right, joiner, windows, joined);
      default:
        return left.outerJoin(right, joiner, windows, joined);
    }
  }

  private Object tableLookup(JsonNode node) {
    ValueJoiner<String, String, String> joiner = Functions::joined;
    Joined joined = Joined.with(TEXT, TEXT, TEXT);
    if (node.has("name")) {
      joined = joined.withName(node.get("name").asText());
    }
    if (node.has("grace")) {
      joined = joined.withGracePeriod(Duration.ofMillis(node.get("grace").asLong()));
    }
    KTable table = (KTable) made.get(node.get("of").get(1).asInt());
    return node.get("kind").asText().equals("inner") ? stream(node).join(table, joiner, joined)
        : stream(node).leftJoin(table, joiner, joined);
  }

  private Object globalLookup(JsonNode node) {
    ValueJoiner<String, String, String> joiner = Functions::joined;
    GlobalKTable table = (GlobalKTable) made.get(node.get("of").get(1).asInt());
    KeyValueMapper mapper = Functions.KEYS.get(node.get("by").asText());
    return node.get("kind").asText().equals("inner") ? stream(node).join(table, mapper, joiner)
        : stream(node).leftJoin(table, mapper, joiner);
  }

  private Object tableGroup(JsonNode node) {
    KeyValueMapper<String, String, String> key = Functions.KEYS.get(node.get("by").asText());
    KGroupedTable<String, String> grouped = ktable(node).groupBy(
        (k, v) -> org.apache.kafka.streams.KeyValue.pair(key.apply((String) k, (String) v), (String) v));
    switch (node.get("kind").asText()) {
      case "count":
        return text(isStored(node) ? grouped.count(store(node)) : grouped.count());
      case "reduce":
        return isStored(node)
            ? grouped.reduce(Functions::reduce, (a, v) -> Functions.last(a + "~" + v), store(node))
            : grouped.reduce(Functions::reduce, (a, v) -> Functions.last(a + "~" + v));
      default:
        return isStored(node)
            ? grouped.aggregate(() -> "", Functions::add, Functions::take, store(node))
            : grouped.aggregate(() -> "", Functions::add, Functions::take);
    }
  }

  private Object tableJoin(JsonNode node) {
    KTable right = (KTable) made.get(node.get("of").get(1).asInt());
    ValueJoiner<String, String, String> joiner =
        node.get("fn").asText().equals("joined") ? Functions::joined : Functions::joinedOrNull;
    switch (node.get("kind").asText()) {
      case "inner":
        return isStored(node) ? ktable(node).join(right, joiner, store(node)) : ktable(node).join(right, joiner);
      case "left":
        return isStored(node) ? ktable(node).leftJoin(right, joiner, store(node))
            : ktable(node).leftJoin(right, joiner);
      default:
        return isStored(node) ? ktable(node).outerJoin(right, joiner, store(node))
            : ktable(node).outerJoin(right, joiner);
    }
  }

  private Object foreignKeyJoin(JsonNode node) {
    KTable left = ktable(node);
    KTable right = (KTable) made.get(node.get("of").get(1).asInt());
    ValueJoiner<String, String, String> joiner = Functions::joined;
    java.util.function.Function<String, String> extractor = Functions::foreign;
    if (node.get("kind").asText().equals("inner")) {
      return isStored(node) ? left.join(right, extractor, joiner, store(node))
          : left.join(right, extractor, joiner);
    }
    return isStored(node) ? left.leftJoin(right, extractor, joiner, store(node))
        : left.leftJoin(right, extractor, joiner);
  }

  private Suppressed suppressed(JsonNode node) {
    Suppressed found;
    if (node.get("until").asText().equals("closed")) {
      found = Suppressed.untilWindowCloses(Suppressed.BufferConfig.unbounded());
    } else {
      Suppressed.BufferConfig buffer = Suppressed.BufferConfig.unbounded();
      if (node.has("max_records")) {
        buffer = Suppressed.BufferConfig.maxRecords(node.get("max_records").asLong()).emitEarlyWhenFull();
      } else if (node.has("max_bytes")) {
        buffer = Suppressed.BufferConfig.maxBytes(node.get("max_bytes").asLong()).emitEarlyWhenFull();
      }
      found = Suppressed.untilTimeLimit(Duration.ofMillis(node.get("limit_ms").asLong()), buffer);
    }
    return node.has("name") ? found.withName(node.get("name").asText()) : found;
  }

  private static KTable text(KTable<?, Long> counts) {
    return counts.mapValues(count -> count == null ? null : String.valueOf(count));
  }

  private static SessionWindows sessions(JsonNode windows) {
    return SessionWindows.ofInactivityGapAndGrace(millis(windows, "gap"), millis(windows, "grace"));
  }

  private static SlidingWindows sliding(JsonNode windows) {
    return SlidingWindows.ofTimeDifferenceAndGrace(millis(windows, "size"), millis(windows, "grace"));
  }

  private static TimeWindows times(JsonNode windows) {
    return TimeWindows.ofSizeAndGrace(millis(windows, "size"), millis(windows, "grace"))
        .advanceBy(millis(windows, "advance"));
  }

  private static Duration millis(JsonNode node, String name) {
    return Duration.ofMillis(node.get(name).asLong());
  }

  private static boolean emitsOnClose(JsonNode node) {
    return node.has("emit") && node.get("emit").asText().equals("close");
  }

  private static boolean isStored(JsonNode node) {
    return node.has("store");
  }

  private static Materialized store(JsonNode node) {
    JsonNode store = node.get("store");
    Materialized given = store.has("name") ? Materialized.as(store.get("name").asText())
        : Materialized.with(null, null);
    if (store.has("memory")) {
      given = given.withStoreType(Materialized.StoreType.IN_MEMORY);
    }
    if (store.has("caching") && !store.get("caching").asBoolean()) {
      given = given.withCachingDisabled();
    }
    if (store.has("logging") && !store.get("logging").asBoolean()) {
      given = given.withLoggingDisabled();
    }
    return given;
  }

  private static String fn(JsonNode node) {
    return node.get("fn").asText();
  }

  private static Named named(JsonNode node) {
    return node.has("name") ? Named.as(node.get("name").asText()) : null;
  }

  private KStream<String, String> stream(JsonNode node) {
    return (KStream<String, String>) made.get(node.get("of").get(0).asInt());
  }

  private KStream stream(JsonNode node, int at) {
    return (KStream) made.get(node.get("of").get(at).asInt());
  }

  private KTable<String, String> ktable(JsonNode node) {
    return (KTable<String, String>) made.get(node.get("of").get(0).asInt());
  }
}
