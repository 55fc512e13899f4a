/** One sentence of advice for each reason; docs/operations.md has more. */

import type { ErrorCode } from '../common/errors.ts';

/** Reasons of a wait without a failure. */
type WaitReason = 'Unclaimed' | 'Queued';

const HINTS: Readonly<Record<ErrorCode | WaitReason, string>> = {
  InvalidRequest: 'The message names the field: correct it in a new request.',
  SourceNotFound: 'Check which claims this sidecar serves, and spec.source.disks.',
  SourcePermissionDenied: 'Run as the owner of the disk; with KubeVirt that is user 107.',
  SourceReadError: 'Check the storage: the message has the offset that cannot be read.',
  SourceChanged: "Stop the VM, or export a snapshot's clone: the disk was written to while it was read.",
  SourceInUse: "Stop the VM, or export a snapshot's clone.",
  InUseUnknown: 'disklift cannot find out whether the disk is in use: make sure that it is not, and set inUse: Allow.',
  FormatUnsupported: 'disklift cannot read the format of the disk; format: Raw takes any file as it is.',
  ImageTooLarge: 'Use a larger cluster size or part size: the message names the smallest that works.',
  DestinationNotAllowed: 'The policy of the sidecar denies this destination; its administrator can allow it.',
  DestinationRejected: 'The destination has refused the image: the message has its answer.',
  DestinationUnreachable: 'Check the address, the network and the certificate of the destination.',
  CredentialsInvalid: 'Check the Secret: whether it exists, is labelled, is meant for this host, and is still valid.',
  ReferenceInvalid: 'Check the ConfigMap: whether it exists, and what its entry contains.',
  ChecksumMismatch: 'The bytes that arrived differ from those that were sent: check the network and proxies between.',
  DeadlineExceeded: 'Raise activeDeadlineSeconds, or find out which step is slow.',
  StoreUnavailable: 'Check the API server, or the storage of the directory of requests; disklift retries.',
  StoreRefused: 'Check the Role, admission webhooks, or the permissions of the directory of requests; disklift retries.',
  ExecutorLost: 'Another process continues the export.',
  ExecutorCrashed: 'Find out why the container ended, such as its memory limit: kubectl describe pod shows its last state.',
  Cancelled: '',
  BaseMissing: 'Make a full image: the base is no longer at the destination.',
  BaseChanged: 'Make a full image, under a key that no other export uses.',
  ReceiptInvalid: 'Make a full image, which writes a new receipt.',
  OtherDisk: 'Give each disk a tracker of its own, such as one with {claim} and {disk}.',
  DiskShrank: 'Make a full image: the base is of a larger disk.',
  ChainTooLong: 'Make a full image, and use another tracker from time to time.',
  ChangesMissing: 'Make a full image: the changes since the base are not known.',
  ChangesRefused: 'Make a full image: the map of changes cannot be used.',
  Unclaimed: 'Check whether a sidecar that serves this claim runs and is ready.',
  Queued: 'Other exports use all slots: raise maxConcurrentExports of the sidecar, or the limits of the controller.',
};

/** @param reason of a condition @returns undefined when there is no advice */
export function hintOf(reason: string | undefined): string | undefined {
  return (HINTS as Readonly<Record<string, string>>)[reason ?? ''] || undefined;
}
