#!/bin/sh
# Installs txworker into .venv, starts a worker, runs a job on it and shows the job's output live, stops the worker.
set -eu
. "$(dirname "$0")/venv.sh"
venv_with ""

cd "$top"
scratch=$(mktemp -d)
cat > "$scratch/worker.toml" <<END
[grpc_server]
addr = "127.0.0.1:0"

[jobs]
directory = "$top"
END

worker=
finish() {
    if [ -n "$worker" ]; then
        kill -TERM "$worker" 2>/dev/null || true
        wait "$worker" || true
    fi
    rm -rf "$scratch"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

: > "$scratch/log"  # it is read before the next line may have made it
"$venv/bin/twistd" -n --pidfile= worker --config "$scratch/worker.toml" > "$scratch/log" 2>&1 &
worker=$!
tries=0
until addr=$(sed -n 's/.*Serving on \([^ ]*:[0-9]*\).*/\1/p' "$scratch/log") && [ -n "$addr" ]; do
    tries=$((tries + 1))
    if [ "$tries" -gt 100 ] || ! kill -0 "$worker" 2>/dev/null; then
        echo "the worker did not start:" >&2
        cat "$scratch/log" >&2
        exit 1
    fi
    sleep 0.1
done

echo "A worker serves on $addr. A job on it, live:"
echo "$ txworker --addr $addr run bash scripts/count.sh"
"$venv/bin/txworker" --addr "$addr" run bash scripts/count.sh
echo "The job is done. What the worker said of it:"
grep 'Job ' "$scratch/log" || true
echo "To go on: .venv/bin/twistd -n worker    (and in another terminal: .venv/bin/txworker run bash scripts/count.sh)"
