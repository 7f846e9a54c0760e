# A job that wants something of it to survive. Whoever it starts is called $1; $2 is a directory; $3 says how it ends.
# Those that nothing but a cgroup can find, rid of session, parent, environment and brand, are called $4.
name=$1 place=$2 ending=$3 lost=$4 here=${0%/*} python=$5 cgroup=$6

become='echo >>"$1/ready"; exec -a "$0" sleep 300'
expected=0

expect() { expected=$((expected + 1)); }

bash -c "$become" "$name" "$place" & expect                                            # in the background
setsid bash -c "$become" "$name" "$place" & expect                                     # in a session of its own
(setsid bash -c "$become" "$name" "$place" &) ; expect                                 # forked twice
env -i setsid /bin/bash -c "PATH=$PATH; $become" "$name" "$place" & expect             # emptied environment, our child
(env -i setsid /bin/bash -c "PATH=$PATH; $become" "$name" "$place" &) ; expect         # emptied environment, forked twice
(setsid bash -c "trap '' TERM HUP INT QUIT; $become" "$name" "$place" &) ; expect      # hears nothing
(TXWORKER_JOB_ID=somebody-else setsid bash -c "$become" "$name" "$place" &) ; expect   # a mark that is no job's
(setsid bash -c 'echo >>"$1/ready"; kill -STOP $$' "$name" "$place" &) ; expect          # stopped
(setsid "$python" -ISc "$(<"$here/headless.py")" "$place" "$name" &) ; expect          # its first thread has ended
(setsid "$python" -IS "$here/chain.py" "$place" "$name" &) ; expect                    # a successor 400 times a second
(env -i setsid "$python" -IS "$here/chain.py" "$place" "$name" &) ; expect             # the same without environment
(ulimit -Sx unlimited; env -i setsid /bin/bash -c "PATH=$PATH; $become" "$lost" "$place" >/dev/null 2>&1 &) ; expect  # rid of all

if [ "$EUID" = 0 ] && unshare -pf true 2>/dev/null; then
    (setsid unshare -pf bash -c "bash -c '$become' $name $place & $become" "$name" "$place" &) ; expect ; expect
fi
if [ -n "$cgroup" ]; then                                                              # a cgroup below the job's
    own=$cgroup$(sed -n 's/^0:://p' /proc/self/cgroup)
    mkdir "$own/below" && (setsid bash -c "echo 0 >$own/below/cgroup.procs; $become" "$name" "$place" &) && expect
    (setsid bash -c "echo 0 >$cgroup/cgroup.procs; $become" "$name" "$place" &) ; expect  # out of the job's
fi

while [ "$(wc -l <"$place/ready")" -lt "$expected" ]; do sleep 0.01; done
echo "$EPOCHREALTIME"
if [ "$ending" != end ]; then
    trap '' TERM
    bash -c 'exec -a "$0" sleep 300' "$name"
fi
