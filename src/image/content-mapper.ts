/** Maps bytes that were read: which clusters hold data, and which are zeros. */

import type { AllocationMapBuilder } from '../qcow2/write/allocation-map.ts';

export interface ClusterSpan {
  firstCluster: number;
  clusterCount: number;
}

export interface ContentMapperOptions {
  clusterSizeBytes: number;
  builder: AllocationMapBuilder;
  /** Receives all clusters that were read and hold data, in the order of the disk. The bytes are valid during the call only. */
  onData?: ((bytes: Uint8Array, offset: number) => void) | undefined;
}

/** @param bytes of the disk from `firstCluster` on @param spans the clusters to map, in order; a hole lies in front of each */
type ContentMapper = (bytes: Buffer, firstCluster: number, spans: readonly ClusterSpan[]) => void;

export function createContentMapper({ clusterSizeBytes, builder, onData }: ContentMapperOptions): ContentMapper {
  const zeros = Buffer.alloc(clusterSizeBytes);

  function mapSpan(bytes: Buffer, start: number, bytesAt: number): void {
    let dataFrom = start;
    const passOn = (dataEnd: number) => {
      if (dataEnd > dataFrom) onData?.(bytes.subarray(dataFrom, dataEnd), bytesAt + dataFrom);
    };
    for (let at = start; at < bytes.length; at += clusterSizeBytes) {
      const end = Math.min(at + clusterSizeBytes, bytes.length);
      const isZero = bytes[at] === 0 && zeros.compare(bytes, at, end, 0, end - at) === 0;
      builder.append(isZero ? 'zero' : 'data', 1);
      if (!isZero) continue;
      passOn(at);
      dataFrom = end;
    }
    passOn(bytes.length);
  }

  return (bytes, firstCluster, spans) => {
    for (const span of spans) {
      builder.append('hole', span.firstCluster - builder.clusterCount);
      const start = (span.firstCluster - firstCluster) * clusterSizeBytes;
      mapSpan(bytes.subarray(0, start + span.clusterCount * clusterSizeBytes), start, firstCluster * clusterSizeBytes);
    }
  };
}
