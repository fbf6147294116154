#!/bin/busybox sh
# The first program of a guest: mounts what a machine has, runs each test as a program of its own, says on the second
# serial port what became of it, and switches the machine off. Lines of results begin with GUEST.
export PATH=/bin:/usr/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t tracefs tracing /sys/kernel/tracing
mount -t cgroup2 cgroup /sys/fs/cgroup
exec >/dev/ttyS1 2>&1
stty raw
export PROCSCOPE_GUEST=1 RUST_BACKTRACE=0
echo "GUEST up Linux $(uname -r)"
passed=0
failed=0
while read -r program name; do
    echo "GUEST test $name"
    if timeout -s KILL 90 "$program" --exact "$name" --include-ignored --test-threads=1 --show-output >/out 2>&1 </dev/null &&
        grep -q '^test result: ok. 1 passed' /out; then
        passed=$((passed + 1))
        sed -n -e 's/^test [^ ]* \.\.\. //' -e 's/^.* | .* | /GUEST said &/p' /out
        echo "GUEST ok $name"
    else
        failed=$((failed + 1))
        why=$(sed -n -e '/^Error: /p' -e '/panicked at/p' /out | head -n 1)
        tail -n 60 /out | cut -c 1-300
        echo "GUEST failed $name: ${why:-it did not end in 90 s, or crashed}"
    fi
done </tests
echo "GUEST done $passed passed, $failed failed"
sync
poweroff -f
