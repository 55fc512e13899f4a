/** One run of a container, as its kubelet counts them. Pure. */

export interface ContainerRun {
  podUid: string;
  name: string;
  /** Another at each start of the container. */
  run: string;
}

/**
 * The kubelet mounts a file of its own at the container's termination message path, `.../pods/UID/containers/NAME/RUN`, with a new RUN at each
 * start. The kernel shows that path as the root of the mount.
 */
const TERMINATION_LOG = /\/pods\/([0-9a-f-]{1,64})\/containers\/([a-z0-9-]{1,63})\/([0-9a-f]{1,16})$/;

/** @param mountInfo /proc/self/mountinfo, proc(5) @returns undefined where there is no such mount, or more than one */
export function containerRunIn(mountInfo: string): ContainerRun | undefined {
  const runs = mountInfo.split('\n').flatMap((line) => {
    const [, podUid, name, run] = TERMINATION_LOG.exec(line.split(' ')[3] ?? '') ?? [];
    return podUid === undefined || name === undefined || run === undefined ? [] : [{ podUid, name, run }];
  });
  return runs.length === 1 ? runs[0] : undefined;
}
