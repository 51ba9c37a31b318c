package differential;

import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import org.apache.kafka.streams.KeyValue;
import org.apache.kafka.streams.kstream.Predicate;
import org.apache.kafka.streams.kstream.ValueMapperWithKey;
import org.apache.kafka.streams.kstream.KeyValueMapper;

/** The functions of plans, by name; functions.py has the same in Python. */
final class Functions {
  static final int MOST_CHARACTERS = 24;

  static final Map<String, Predicate<String, String>> PREDICATES = Map.of(
      "present", (k, v) -> v != null,
      "even", (k, v) -> v != null && v.length() % 2 == 0,
      "has_a", (k, v) -> v != null && v.contains("a"),
      "not_k1", (k, v) -> !"k1".equals(k),
      "nothing", (k, v) -> false);

  static final Map<String, ValueMapperWithKey<String, String, String>> VALUES = Map.of(
      "bang", (k, v) -> v == null ? null : cut(v + "!"),
      "keyed", (k, v) -> cut(k + "=" + v),
      "null_if_b", (k, v) -> v == null || v.startsWith("b") ? null : v,
      "first", (k, v) -> v == null || v.isEmpty() ? v : v.substring(0, 1));

  static final Map<String, KeyValueMapper<String, String, String>> KEYS = Map.of(
      "same", (k, v) -> k,
      "initial", (k, v) -> v == null || v.isEmpty() ? null : "k" + v.charAt(0),
      "length", (k, v) -> "k" + (v == null ? 9 : v.length() % 3),
      "value", (k, v) -> v,
      "dropped", (k, v) -> k == null || k.equals("k2") ? null : k);

  static List<KeyValue<String, String>> spread(String key, String value) {
    List<KeyValue<String, String>> found = new ArrayList<>();
    for (int at = 0; value != null && at < Math.min(3, value.length()); at++) {
      found.add(KeyValue.pair("k" + value.charAt(at), value.substring(at)));
    }
    return found;
  }

  static List<String> letters(String value) {
    List<String> found = new ArrayList<>();
    for (int at = 0; value != null && at < Math.min(3, value.length()); at++) {
      found.add(value.substring(at, at + 1));
    }
    return found;
  }

  static String foreign(String value) {
    return value == null || value.isEmpty() || value.charAt(0) == '-' ? null : "k" + value.charAt(0);
  }

  static String joined(String left, String right) {
    return cut("(" + left + "," + right + ")");
  }

  static String joinedOrNull(String left, String right) {
    return left != null && left.endsWith("b") ? null : joined(left, right);
  }

  static String add(String key, String value, String aggregate) {
    return last(aggregate + value);
  }

  static String take(String key, String value, String aggregate) {
    return last(aggregate + "-" + value);
  }

  static String addOrDrop(String key, String value, String aggregate) {
    return value != null && value.startsWith("c") ? null : last(aggregate + value);
  }

  static String reduce(String left, String right) {
    return last(left + "+" + right);
  }

  static String cut(String text) {
    return text.length() > MOST_CHARACTERS ? text.substring(0, MOST_CHARACTERS) : text;
  }

  /** Keeps the end: the newest part of an aggregate. */
  static String last(String text) {
    int length = text.length();
    return length > MOST_CHARACTERS ? text.substring(length - MOST_CHARACTERS) : text;
  }
}
