#!/bin/busybox sh
# The first program of a guest whose power is cut: writes a spool on the disk, or reads the one that it finds there, and
# says on the second serial port how far it is. Lines of results begin with GUEST.
export PATH=/bin
mount -t proc proc /proc
mount -t devtmpfs dev /dev
exec >/dev/ttyS1 2>&1
stty raw
mount -t ext4 /dev/nvme0n1 /disk || echo "GUEST failed to mount the disk"
echo "GUEST up"
if [ -d /disk/spool ]; then
    /spool spool read /disk/spool
    echo "GUEST done $?"
else
    /spool spool write /disk/spool
    echo "GUEST failed $?"
fi
poweroff -f
