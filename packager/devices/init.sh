#!/bin/busybox sh
# Process 1 of the emulated machine: runs one program as its only job, sends what came of it
# over the second serial port, and switches the machine off.
#
#   /boot/key        opens each line that is not content; the program cannot read it
#   /boot/argv       the program and its arguments, one a line
#   /boot/limit      of the program's memory, in bytes
#   /boot/cpuinfo    stands in for /proc/cpuinfo, if it is there
#   /boot/record     asks for a record of the program's system calls, if it is there
#   /payload         the program's folder, the only place that it can write to
#
# packager/devices/serial.py reads what is sent.
export PATH=/bin

stop() {
    echo "packager: $1" > /dev/console
    poweroff -f
}

send() {  # the name to send a file by, the file
    sum=$({ printf '%s\n' "$1"; cat "$2"; } | sha256sum)
    name=$(printf %s "$1" | hexdump -ve '1/1 "%02x"')
    echo "$key file $name $(stat -c %s "$2") ${sum%% *}"
    gzip -c "$2" | base64  # the port takes some 200 kB a second
}

written() {  # the descriptor; prints how far it has come
    while read -r field value; do
        [ "$field" = pos: ] && echo "$value"
    done < "/proc/1/fdinfo/$1"
}

mount -t proc proc /proc || stop "there is no proc file system"
mount -t sysfs sysfs /sys || stop "there is no sysfs file system"
mount -t devtmpfs dev /dev || stop "there is no devtmpfs file system"
mount -t cgroup2 cgroup2 /sys/fs/cgroup || stop "there is no cgroup2 file system"
mount -t tmpfs -o size=100% tmpfs /run || stop "there is no tmpfs file system"

[ -c /dev/ttyS0 ] || stop "the kernel has no driver for the second serial port"
stty -F /dev/ttyS0 raw -echo && exec 3> /dev/ttyS0 || stop "the second serial port cannot be opened"
read -r key < /boot/key || stop "there is no key"

# The same addresses in every run, or the counts differ by how data happens to lie.
echo 0 > /proc/sys/kernel/randomize_va_space || stop "addresses cannot be fixed"
# Memory is refused when it is used and not when it is asked for: want of it is always seen here.
echo 1 > /proc/sys/vm/overcommit_memory || stop "memory cannot be promised"
[ ! -e /boot/cpuinfo ] || mount --bind /boot/cpuinfo /proc/cpuinfo || stop "cpuinfo cannot be set"

group=/sys/fs/cgroup/program
echo +memory > /sys/fs/cgroup/cgroup.subtree_control && mkdir $group || stop "memory is not counted"
[ -e $group/memory.peak ] || stop "the kernel is older than 5.19 and has no memory.peak"
cat /boot/limit > $group/memory.max || stop "the memory limit cannot be set"
echo 1 > $group/memory.oom.group || stop "the memory limit cannot be set"

recorder=/sys/kernel/tracing
if [ -e /boot/record ]; then
    mount -t tracefs tracefs $recorder || stop "the kernel records no system calls"
    echo 0 > $recorder/tracing_on || stop "system calls cannot be recorded"
    # Without names of programs, which they choose themselves, a line break included.
    echo 0 > $recorder/options/record-cmd || stop "system calls cannot be recorded"
    echo 1 > $recorder/options/event-fork || stop "system calls cannot be recorded"
    echo 8192 > $recorder/buffer_size_kb || stop "system calls cannot be recorded"
    echo 1 > $recorder/events/syscalls/enable || stop "system calls cannot be recorded"
fi

mount --bind /payload /payload && mount -o remount,bind,ro / || stop "the root cannot be made read-only"

# What a program prints goes into pages that are there before it starts, and are not its own:
# so its peak of memory is its own. Only what goes beyond them is counted as the program's.
fallocate -l 4194304 /run/stdout && fallocate -l 262144 /run/stderr || stop "there is no memory"
exec 4<> /run/stdout 5<> /run/stderr

set --
while IFS= read -r part; do
    set -- "$@" "$part"
done < /boot/argv

echo "$key started" >&3
cd /payload || stop "there is no folder for the program"
(
    if [ -e /boot/record ]; then
        sh -c "echo \$PPID > $recorder/set_event_pid" || stop "system calls cannot be recorded"
        echo 1 > $recorder/tracing_on || stop "system calls cannot be recorded"
    fi
    echo 0 > $group/cgroup.procs || stop "the memory limit cannot be set"
    program=$1
    shift
    exec env -i PATH=/bin HOME=/payload TMPDIR=/payload \
        start-stop-daemon -S -c nobody -p /none -a "$program" -- "$@"
) < /dev/null >&4 2>&5 3>&- 4>&- 5>&-
status=$?
cd /
echo 1 > $group/cgroup.kill

{
    echo "status $status"
    echo "peak_memory_bytes $(cat $group/memory.peak)"
    while read -r event count; do
        [ "$event" = oom_kill ] && echo "killed_for_memory $count"
    done < $group/memory.events
    echo "network_devices" $(ls /sys/class/net)
} > /run/facts
truncate -s "$(written 4)" /run/stdout || stop "the program's output is lost"
truncate -s "$(written 5)" /run/stderr || stop "the program's output is lost"

count=3
{
    if [ -e /boot/record ]; then
        echo 0 > $recorder/tracing_on
        while read -r event lost; do
            case $event in
                overrun: | dropped) [ "${lost##* }" = 0 ] || stop "too many system calls to record" ;;
            esac
        done < $recorder/per_cpu/cpu0/stats
        cat $recorder/trace > /run/calls || stop "the record of system calls is lost"
        send calls /run/calls
        count=4
    fi
    send facts /run/facts
    send stdout /run/stdout
    send stderr /run/stderr
    for made in /payload/* /payload/.[!.]*; do
        # What the archive brought dates from 1970, as its key does.
        if [ -f "$made" ] && [ ! -L "$made" ] && [ "$made" -nt /boot/key ]; then
            send "${made#/}" "$made"
            count=$((count + 1))
        fi
    done
    echo "$key end $count"
} >&3
# Closing the port waits until all of it is sent.
exec 3>&-
poweroff -f
