/** Looks at one volume of a source, whatever its kind. Contract of observe-source and observe-vm. */

import type { DiskExport } from '../resource/disk-export.ts';
import type { FleetApi } from '../stores/kubernetes/client/fleet-api.ts';
import type { ClaimObject } from '../stores/kubernetes/client/fleet-objects.ts';
import type { VolumeFacts } from './observed.ts';

export interface VolumeLooks {
  api: FleetApi;
  claim(namespace: string, claimName: string): Promise<ClaimObject | undefined>;
  /** @param mayNeedSnapshot whether the class for a snapshot is to be chosen */
  volume(
    request: DiskExport,
    key: string,
    claimName: string,
    mayNeedSnapshot: (writer: string | undefined) => boolean,
  ): Promise<VolumeFacts>;
  writerOf(namespace: string, claimName: string): string | undefined;
}
