/** The JSON Schema of the status of a DiskExport. Generated from manifests/crd.yaml by `make generate`: change it there. */

import type { Schema } from './schema.ts';

export const STATUS_SCHEMA: Schema = {
  type: 'object',
  properties: {
    observedGeneration: { type: 'integer', minimum: 0 },
    phase: { type: 'string', enum: ['Pending', 'Scanning', 'Streaming', 'Verifying', 'Succeeded', 'Failed', 'Cancelled'] },
    message: { type: 'string', maxLength: 32768 },
    destination: { type: 'string', enum: ['HTTP', 'S3', 'TCP'] },
    conditions: {
      type: 'array',
      maxItems: 16,
      items: {
        type: 'object',
        required: ['type', 'status', 'reason', 'message'],
        properties: {
          type: { type: 'string', minLength: 1, maxLength: 64, pattern: '^[A-Z][A-Za-z]*$' },
          status: { type: 'string', enum: ['True', 'False', 'Unknown'] },
          reason: { type: 'string', minLength: 1, maxLength: 64, pattern: '^[A-Z][A-Za-z]*$' },
          message: { type: 'string', maxLength: 32768 },
          lastTransitionTime: { type: 'string' },
          observedGeneration: { type: 'integer', minimum: 0 },
        },
        additionalProperties: false,
      },
    },
    consistency: { type: 'string', enum: ['Offline', 'Application', 'Crash'] },
    snapshotTime: { type: 'string' },
    startTime: { type: 'string' },
    nextAttemptTime: { type: 'string' },
    completionTime: { type: 'string' },
    duration: { type: 'string', maxLength: 32 },
    attempts: { type: 'integer', minimum: 0 },
    executor: {
      type: 'object',
      properties: {
        podName: { type: 'string', maxLength: 253 },
        podUID: { type: 'string', maxLength: 128 },
        nodeName: { type: 'string', maxLength: 253 },
      },
      additionalProperties: false,
    },
    unfinishedRuns: {
      type: 'object',
      required: ['count', 'sentBytes'],
      properties: { count: { type: 'integer', minimum: 1 }, sentBytes: { type: 'integer', minimum: 0 } },
      additionalProperties: false,
    },
    progress: {
      type: 'object',
      required: ['percent', 'virtualBytes', 'imageBytes', 'sentBytes', 'skippedBytes', 'written'],
      properties: {
        percent: { type: 'integer', minimum: 0, maximum: 100 },
        virtualBytes: { type: 'integer', minimum: 0 },
        imageBytes: { type: 'integer', minimum: 0 },
        sentBytes: { type: 'integer', minimum: 0 },
        skippedBytes: { type: 'integer', minimum: 0 },
        written: { type: 'string', maxLength: 32 },
      },
      additionalProperties: false,
    },
    disks: {
      type: 'array',
      maxItems: 64,
      items: {
        type: 'object',
        required: ['path'],
        properties: {
          path: { type: 'string', minLength: 1, maxLength: 1024 },
          format: { type: 'string', maxLength: 16 },
          phase: { type: 'string', enum: ['Pending', 'Scanning', 'Streaming', 'Verifying', 'Succeeded', 'Failed', 'Cancelled'] },
          reason: { type: 'string', maxLength: 64 },
          message: { type: 'string', maxLength: 8192 },
          virtualBytes: { type: 'integer', minimum: 0 },
          imageBytes: { type: 'integer', minimum: 0 },
          sentBytes: { type: 'integer', minimum: 0 },
          attempts: { type: 'integer', minimum: 0 },
          clusters: {
            type: 'object',
            required: ['total', 'scanned', 'skipped', 'written'],
            properties: {
              total: { type: 'integer', minimum: 0 },
              scanned: { type: 'integer', minimum: 0 },
              skipped: { type: 'integer', minimum: 0 },
              written: { type: 'integer', minimum: 0 },
            },
            additionalProperties: false,
          },
          location: { type: 'string', maxLength: 8192 },
          etag: { type: 'string', maxLength: 1024 },
          sha256: { type: 'string', pattern: '^[0-9a-f]{64}$', maxLength: 64 },
          proof: { type: 'string', enum: ['Digest', 'ETag', 'Checksum', 'ReadBack', 'Length', 'Status', 'Close'] },
          type: { type: 'string', enum: ['Full', 'Incremental'] },
          typeReason: { type: 'string', maxLength: 64, pattern: '^[A-Z][A-Za-z]*$' },
          changedBytes: { type: 'integer', minimum: 0 },
          readBytes: { type: 'integer', minimum: 0 },
          base: {
            type: 'object',
            required: ['location', 'sha256'],
            properties: {
              location: { type: 'string', maxLength: 8192 },
              sha256: { type: 'string', pattern: '^[0-9a-f]{64}$', maxLength: 64 },
            },
            additionalProperties: false,
          },
          upload: {
            type: 'object',
            required: ['id', 'partSize', 'fingerprint'],
            properties: {
              id: { type: 'string', minLength: 1, maxLength: 2048 },
              partSize: { type: 'integer', minimum: 1 },
              fingerprint: { type: 'string', maxLength: 256 },
            },
            additionalProperties: false,
          },
        },
        additionalProperties: false,
      },
    },
  },
  additionalProperties: false,
};
