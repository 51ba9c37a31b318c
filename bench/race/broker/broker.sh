#!/bin/bash
# broker.sh start | stop      One throw-away Kafka node on 127.0.0.1.
# It listens on $BENCH_PORT (29092) and, for its controller, on the port after that. Files go under
# $BENCH_BUILD/broker; jars come from $BENCH_KAFKA_LIBS when that is set, else Maven fetches them.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
build=${BENCH_BUILD:-$HOME/.cache/thalweg/bench}/broker
libs=${BENCH_KAFKA_LIBS:-$build/libs}
port=${BENCH_PORT:-29092}
mkdir -p "$build"

answers() {
    (exec 3<> "/dev/tcp/127.0.0.1/$port") 2> /dev/null
}

failed() {
    echo "the broker did not come up, see $build/broker.log" >&2
    exit 1
}

case "${1:-}" in
start)
    if [ -e "$build/pid" ] && kill -0 "$(cat "$build/pid")" 2> /dev/null; then
        echo "it runs already, pid $(cat "$build/pid")" >&2
        exit 1
    fi
    if answers; then
        echo "port $port is taken: choose another with BENCH_PORT" >&2
        exit 1
    fi
    [ -d "$libs" ] || mvn -q -f "$here/pom.xml" dependency:copy-dependencies -DoutputDirectory="$libs"
    rm -rf "$build/data"
    sed -e "s#@DATA@#$build/data#" -e "s#@PORT@#$port#" -e "s#@CONTROLLER_PORT@#$((port + 1))#" \
        "$here/server.properties" > "$build/server.properties"
    id=$(java -cp "$libs/*" kafka.tools.StorageTool random-uuid 2> "$build/broker.log") || failed
    java -cp "$libs/*" kafka.tools.StorageTool format -t "$id" -c "$build/server.properties" \
        > "$build/broker.log" 2>&1 || failed
    setsid java -Xmx1g -Xms1g -XX:+UseG1GC -cp "$libs/*" kafka.Kafka "$build/server.properties" \
        > "$build/broker.log" 2>&1 < /dev/null &
    pid=$!
    echo "$pid" > "$build/pid"
    for _ in $(seq 150); do
        kill -0 "$pid" 2> /dev/null || break
        answers && { echo "the broker is up on port $port, pid $pid"; exit 0; }
        sleep 0.2
    done
    kill "$pid" 2> /dev/null || true
    rm -f "$build/pid"
    failed
    ;;
stop)
    if [ ! -e "$build/pid" ]; then
        echo "no broker was started under $build" >&2
        exit 1
    fi
    pid=$(cat "$build/pid")
    # A pid may have gone to another process since: only what runs our configuration is ended.
    if grep -qsF "$build/server.properties" "/proc/$pid/cmdline"; then
        kill "$pid"
        while kill -0 "$pid" 2> /dev/null; do sleep 0.1; done
    fi
    rm -rf "$build/data" "$build/pid"
    ;;
*)
    echo "usage: $0 start | stop" >&2
    exit 2
    ;;
esac
