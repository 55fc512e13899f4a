/** The JSON Schemas of the spec and the status of a DiskExportSchedule. Generated from manifests/crd-schedules.yaml by `make generate`: change it there. */

import type { Schema } from './schema.ts';
import { SPEC_SCHEMA } from './spec-schema.ts';

export const SCHEDULE_SPEC_SCHEMA: Schema = {
  type: 'object',
  required: ['schedule', 'exportTemplate'],
  properties: {
    schedule: { type: 'string', minLength: 1, maxLength: 256 },
    timeZone: { type: 'string', minLength: 1, maxLength: 64, pattern: '^[A-Za-z0-9_+/-]+$' },
    suspend: { type: 'boolean', default: false },
    concurrencyPolicy: { type: 'string', enum: ['Allow', 'Forbid', 'Replace'], default: 'Forbid' },
    startingDeadlineSeconds: { type: 'integer', minimum: 10, maximum: 2147483647 },
    successfulExportsHistoryLimit: { type: 'integer', minimum: 0, maximum: 1000, default: 3 },
    failedExportsHistoryLimit: { type: 'integer', minimum: 0, maximum: 1000, default: 1 },
    exportTemplate: {
      type: 'object',
      required: ['spec'],
      properties: {
        metadata: {
          type: 'object',
          properties: {
            labels: {
              type: 'object',
              additionalProperties: { type: 'string', maxLength: 63, pattern: '^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$' },
            },
            annotations: { type: 'object', additionalProperties: { type: 'string', maxLength: 65536 } },
          },
          additionalProperties: false,
        },
        spec: SPEC_SCHEMA,
      },
      additionalProperties: false,
    },
  },
  additionalProperties: false,
};

export const SCHEDULE_STATUS_SCHEMA: Schema = {
  type: 'object',
  properties: {
    observedGeneration: { type: 'integer', minimum: 0 },
    active: { type: 'array', maxItems: 100, items: { type: 'string', maxLength: 253 } },
    activeCount: { type: 'integer', minimum: 0 },
    lastScheduleTime: { type: 'string' },
    lastSuccessfulTime: { type: 'string' },
    nextScheduleTime: { type: 'string' },
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
  },
  additionalProperties: false,
};
