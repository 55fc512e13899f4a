/** How one of QEMU's programs is run so that it ends when this process does, however this process ends. */

/** The descriptor of the listening socket: the first of those by which sockets are handed on (sd_listen_fds(3)). */
const LISTENING_FD = 3;

/** A socket that nothing is ever written to: its end means that whoever held the other one is gone. */
export const TETHER_FD = 4;

/** The first descriptor of what the program is to open. */
export const FIRST_FILE_FD = 5;

/** The shell's exit code where there is no such program. */
export const NOT_INSTALLED = 127;

/**
 * For /bin/sh; `$1` is a block node as JSON, `$2` its name, which is the export's too. Writes one line, the program's process id.
 *
 * The shell waits for the program, and a second one for the end of the tether, to kill the program. The first reaps both, so that
 * none is left to a process 1 that reaps nobody. That qemu-nbd ends with its last client would not do: it stays when the client
 * dies before they have shaken hands. What shells say of processes that were killed is for nobody.
 */
export const QEMU_SCRIPT = `
if command -v qemu-storage-daemon >/dev/null; then
  set -- qemu-storage-daemon --blockdev "$1" --nbd-server addr.type=fd,addr.str=${LISTENING_FD},max-connections=1 \\
    --export "type=nbd,id=$2,node-name=$2,name=$2"
elif command -v qemu-nbd >/dev/null; then
  set -- /bin/sh -c 'LISTEN_PID=$$ LISTEN_FDS=1 exec "$@"' sh qemu-nbd --read-only --export-name="$2" "json:$1"
else
  exit ${NOT_INSTALLED}
fi
"$@" >/dev/null ${TETHER_FD}<&- & program=$!
exec 2>/dev/null
echo $program
{ read -r _ <&${TETHER_FD}; kill -9 $program; } & tether=$!
wait $program; status=$?
kill -9 $tether; wait $tether
exit $status
`;
