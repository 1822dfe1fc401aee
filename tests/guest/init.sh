#!/bin/busybox sh
# The first and only program of the test guest. It says on the serial console what it finds, prints
# HVCORE-GUEST-READY once it can be switched off, and then offers a shell there.
# On the kernel command line, N being seconds after the marker:
#   hvcore.poweroff=N  hvcore.reboot=N  hvcore.panic=N
# and, printed in base64 before the marker, an ACPI table:
#   hvcore.table=NAME
/bin/busybox mkdir -p /bin /proc /sys /dev /run /tmp
/bin/busybox --install -s /bin
export PATH=/bin HOME=/ TERM=dumb PS1="guest# "
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev

while read -r module; do
    insmod "/modules/$module" 2>/dev/null || echo "HVCORE-GUEST refused=$module"
done </modules/order

# acpid opens the input devices once, at its start, and what is pressed before that is lost.
acpid -f -l /run/acpid.log -p /run/acpid.pid &
acpid=$!
tries=0
until ls -l "/proc/$acpid/fd" 2>/dev/null | grep -q /dev/input/event || [ "$tries" -ge 100 ]; do
    tries=$((tries + 1))
    usleep 20000
done

names() {
    for entry in "$1"/*; do
        [ -e "$entry" ] && printf '%s,' "${entry##*/}"
    done
}
echo "HVCORE-GUEST cpus=$(grep -c ^processor /proc/cpuinfo)"
echo "HVCORE-GUEST memory=$(sed -n 's/^MemTotal: *\([0-9]*\) kB/\1/p' /proc/meminfo)"
echo "HVCORE-GUEST disks=$(names /sys/block)"
echo "HVCORE-GUEST networks=$(names /sys/class/net)"
echo "HVCORE-GUEST ports=$(names /sys/class/virtio-ports)"

printf 'HVCORE-GUEST pci='
for device in /sys/bus/pci/devices/*; do
    [ -e "$device" ] && printf '%s=%s:%s,' "${device##*/}" "$(cat "$device/vendor")" "$(cat "$device/device")"
done
echo
if [ -e /sys/devices/system/node ]; then
    echo "HVCORE-GUEST nodes=$(ls -d /sys/devices/system/node/node* | sed 's/.*node//' | sort -n | tr '\n' ',')"
    echo "HVCORE-GUEST initiators=$(cat /sys/devices/system/node/has_generic_initiator)"
fi

later() {
    (sleep "$1"; shift; "$@") &
}
crash() {
    echo c >/proc/sysrq-trigger
}
for word in $(cat /proc/cmdline); do
    case $word in
    hvcore.poweroff=*) later "${word#*=}" poweroff -f ;;
    hvcore.reboot=*) later "${word#*=}" reboot -f ;;
    hvcore.panic=*) later "${word#*=}" crash ;;
    hvcore.table=*)
        table=${word#*=}
        echo "HVCORE-GUEST $table=$(base64 "/sys/firmware/acpi/tables/$table" | tr -d '\n')"
        ;;
    esac
done
echo HVCORE-GUEST-READY

while :; do
    setsid cttyhack sh
    sleep 1
done
