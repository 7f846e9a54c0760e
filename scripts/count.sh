#!/usr/bin/env bash
# Counts, a line at a time, and says goodbye on stderr.
for number in 1 2 3 4 5; do
    echo "count $number"
    sleep 0.3
done
echo "that is all" >&2
