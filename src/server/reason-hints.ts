/** What to do about a failure, in a sentence; docs/operations.md has more. */

import type { ErrorCode } from '../common/errors.ts';

/** Reasons for which nothing has failed. */
type WaitReason = 'Unclaimed' | 'Queued';

const HINTS: Readonly<Record<ErrorCode | WaitReason, string>> = {
  InvalidRequest: 'The message names the field: put it right in a new request.',
  SourceNotFound: 'Look at which claims this sidecar serves, and at spec.source.disks.',
  SourcePermissionDenied: 'Run as the owner of the disk; with KubeVirt that is user 107.',
  SourceReadError: 'Look at the storage: the message has the offset that cannot be read.',
  SourceChanged: "Stop the VM, or export a snapshot's clone: the disk was written to while it was read.",
  SourceInUse: "Stop the VM, or export a snapshot's clone.",
  InUseUnknown: 'Nobody can tell whether the disk is written to: make sure it is not, and set inUse: Allow.',
  FormatUnsupported: 'The disk is in a format that cannot be read; format: Raw takes any file as it is.',
  ImageTooLarge: 'Take a larger cluster size or part size: the message names the smallest that works.',
  DestinationNotAllowed: 'The policy denies this destination; whoever runs the sidecar can allow it.',
  DestinationRejected: 'The destination has answered and said no: the message has its words.',
  DestinationUnreachable: 'Look at the address, the network and the certificate of the destination.',
  CredentialsInvalid: 'Look at the Secret: whether it is there, labelled, meant for this host, and still valid.',
  ReferenceInvalid: 'Look at the ConfigMap: whether it is there, and what its entry holds.',
  ChecksumMismatch: 'What arrived is not what was sent: look at what lies between.',
  DeadlineExceeded: 'Raise activeDeadlineSeconds, or find out what is slow.',
  StoreUnavailable: 'Look at the API server, or at the storage of the directory of requests; it is tried again.',
  StoreRefused: 'Look at the Role, at admission webhooks, or at who may write to the directory of requests; it is tried again.',
  ExecutorLost: 'Another process goes on with it.',
  ExecutorCrashed: 'Find out why the container ended, such as its memory limit: kubectl describe pod shows its last state.',
  Cancelled: '',
  Unclaimed: 'Look at whether a sidecar that serves this claim is there and ready.',
  Queued: 'Other exports have the slots: maxConcurrentExports says how many there are.',
};

/** @param reason of a condition @returns undefined where there is nothing to say */
export function hintOf(reason: string | undefined): string | undefined {
  return (HINTS as Readonly<Record<string, string>>)[reason ?? ''] || undefined;
}
