/** The JSON Schema of the spec of a DiskExport. Generated from manifests/crd.yaml by `make generate`: change it there. */

import type { Schema } from './schema.ts';

export const SPEC_SCHEMA: Schema = {
  type: 'object',
  required: ['source', 'destination'],
  properties: {
    source: {
      type: 'object',
      properties: {
        persistentVolumeClaim: {
          type: 'object',
          required: ['claimName'],
          properties: {
            claimName: {
              type: 'string',
              minLength: 1,
              maxLength: 253,
              pattern: '^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$',
            },
          },
          additionalProperties: false,
        },
        volumeSnapshot: {
          type: 'object',
          required: ['name'],
          properties: {
            name: {
              type: 'string',
              minLength: 1,
              maxLength: 253,
              pattern: '^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$',
            },
          },
          additionalProperties: false,
        },
        virtualMachine: {
          type: 'object',
          required: ['name'],
          properties: {
            name: {
              type: 'string',
              minLength: 1,
              maxLength: 253,
              pattern: '^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$',
            },
            volumes: {
              type: 'array',
              minItems: 1,
              maxItems: 64,
              items: { type: 'string', minLength: 1, maxLength: 63, pattern: '^[a-z0-9]([-a-z0-9]*[a-z0-9])?$' },
            },
            manifest: { type: 'boolean' },
          },
          additionalProperties: false,
        },
        virtualMachineBackup: {
          type: 'object',
          required: ['name'],
          properties: {
            name: {
              type: 'string',
              minLength: 1,
              maxLength: 253,
              pattern: '^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$',
            },
          },
          additionalProperties: false,
        },
        disks: {
          type: 'array',
          minItems: 1,
          maxItems: 64,
          items: {
            type: 'object',
            required: ['path'],
            properties: {
              path: { type: 'string', minLength: 1, maxLength: 1024 },
              format: { type: 'string', enum: ['Auto', 'Raw', 'QCOW2', 'VMDK', 'VHDX', 'VDI', 'VPC'], default: 'Auto' },
            },
            additionalProperties: false,
          },
        },
        inUse: { type: 'string', enum: ['Wait', 'Fail', 'Allow'], default: 'Wait' },
        verify: { type: 'string', enum: ['Auto', 'Always', 'Never'], default: 'Auto' },
      },
      additionalProperties: false,
    },
    snapshot: {
      type: 'object',
      properties: {
        mode: { type: 'string', enum: ['Auto', 'Always', 'Never'], default: 'Auto' },
        className: {
          type: 'string',
          minLength: 1,
          maxLength: 253,
          pattern: '^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$',
        },
        timeoutSeconds: { type: 'integer', minimum: 1, maximum: 86400, default: 600 },
        cloneStorageClassName: {
          type: 'string',
          minLength: 1,
          maxLength: 253,
          pattern: '^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$',
        },
      },
      additionalProperties: false,
    },
    image: {
      type: 'object',
      default: { clusterSize: '64Ki', version: 3, refcountBits: 16, zeroDetection: 'Content' },
      properties: {
        layout: { type: 'string', enum: ['Converted', 'Verbatim'] },
        clusterSize: { maxLength: 8, pattern: '^[0-9]{1,7}([kKM]|Ki|Mi)?$', default: '64Ki', type: ['integer', 'string'] },
        version: { type: 'integer', enum: [2, 3], default: 3 },
        refcountBits: { type: 'integer', enum: [1, 2, 4, 8, 16, 32, 64], default: 16 },
        zeroDetection: { type: 'string', enum: ['Content', 'Extents'], default: 'Content' },
      },
      additionalProperties: false,
    },
    destination: {
      type: 'object',
      properties: {
        http: {
          type: 'object',
          properties: {
            url: { type: 'string', minLength: 1, maxLength: 4096 },
            urlSecretRef: {
              type: 'object',
              required: ['name', 'key'],
              properties: {
                name: {
                  type: 'string',
                  minLength: 1,
                  maxLength: 253,
                  pattern: '^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$',
                },
                key: { type: 'string', minLength: 1, maxLength: 253, pattern: '^[-._a-zA-Z0-9]+$' },
              },
              additionalProperties: false,
            },
            method: { type: 'string', enum: ['PUT', 'POST'], default: 'PUT' },
            headersSecretRef: {
              type: 'object',
              required: ['name'],
              properties: {
                name: {
                  type: 'string',
                  minLength: 1,
                  maxLength: 253,
                  pattern: '^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$',
                },
              },
              additionalProperties: false,
            },
            ifNoneMatch: { type: 'boolean', default: false },
            createCollections: { type: 'boolean', default: false },
            answerTimeoutSeconds: { type: 'integer', minimum: 1, maximum: 2592000 },
            tls: {
              type: 'object',
              properties: {
                caBundleRef: {
                  type: 'object',
                  required: ['key'],
                  properties: {
                    configMap: {
                      type: 'string',
                      minLength: 1,
                      maxLength: 253,
                      pattern: '^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$',
                    },
                    secret: {
                      type: 'string',
                      minLength: 1,
                      maxLength: 253,
                      pattern: '^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$',
                    },
                    key: { type: 'string', minLength: 1, maxLength: 253, pattern: '^[-._a-zA-Z0-9]+$' },
                  },
                  additionalProperties: false,
                },
                clientCertificateSecretRef: {
                  type: 'object',
                  required: ['name'],
                  properties: {
                    name: {
                      type: 'string',
                      minLength: 1,
                      maxLength: 253,
                      pattern: '^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$',
                    },
                  },
                  additionalProperties: false,
                },
                serverName: { type: 'string', minLength: 1, maxLength: 253, pattern: '^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$' },
              },
              additionalProperties: false,
            },
          },
          additionalProperties: false,
        },
        s3: {
          type: 'object',
          required: ['bucket', 'key'],
          properties: {
            endpoint: { type: 'string', minLength: 1, maxLength: 1024 },
            region: { type: 'string', minLength: 1, maxLength: 64, pattern: '^[A-Za-z0-9_-]+$', default: 'us-east-1' },
            bucket: { type: 'string', minLength: 3, maxLength: 255, pattern: '^[A-Za-z0-9][A-Za-z0-9._-]*$' },
            key: { type: 'string', minLength: 1, maxLength: 1024 },
            credentialsSecretRef: {
              type: 'object',
              required: ['name'],
              properties: {
                name: {
                  type: 'string',
                  minLength: 1,
                  maxLength: 253,
                  pattern: '^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$',
                },
              },
              additionalProperties: false,
            },
            forcePathStyle: { type: 'boolean', default: false },
            partSize: { maxLength: 12, pattern: '^[0-9]{1,10}([kKMG]|Ki|Mi|Gi)?$', type: ['integer', 'string'] },
            maxParts: { type: 'integer', minimum: 1, maximum: 10000, default: 10000 },
            concurrency: { type: 'integer', minimum: 1, maximum: 32, default: 4 },
            checksum: { type: 'string', enum: ['None', 'CRC32', 'CRC32C', 'CRC64NVME'], default: 'None' },
            ifNotExists: { type: 'boolean', default: false },
            sha256Object: { type: 'boolean', default: false },
            tls: {
              type: 'object',
              properties: {
                caBundleRef: {
                  type: 'object',
                  required: ['key'],
                  properties: {
                    configMap: {
                      type: 'string',
                      minLength: 1,
                      maxLength: 253,
                      pattern: '^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$',
                    },
                    secret: {
                      type: 'string',
                      minLength: 1,
                      maxLength: 253,
                      pattern: '^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$',
                    },
                    key: { type: 'string', minLength: 1, maxLength: 253, pattern: '^[-._a-zA-Z0-9]+$' },
                  },
                  additionalProperties: false,
                },
                clientCertificateSecretRef: {
                  type: 'object',
                  required: ['name'],
                  properties: {
                    name: {
                      type: 'string',
                      minLength: 1,
                      maxLength: 253,
                      pattern: '^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$',
                    },
                  },
                  additionalProperties: false,
                },
                serverName: { type: 'string', minLength: 1, maxLength: 253, pattern: '^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$' },
              },
              additionalProperties: false,
            },
          },
          additionalProperties: false,
        },
        tcp: {
          type: 'object',
          required: ['host', 'port'],
          properties: {
            host: { type: 'string', minLength: 1, maxLength: 253, pattern: '^[A-Za-z0-9:._-]+$' },
            port: { type: 'integer', minimum: 1, maximum: 65535 },
            protocol: { type: 'string', enum: ['Raw', 'Acknowledged'], default: 'Acknowledged' },
            answerTimeoutSeconds: { type: 'integer', minimum: 1, maximum: 2592000 },
            tls: {
              type: 'object',
              properties: {
                caBundleRef: {
                  type: 'object',
                  required: ['key'],
                  properties: {
                    configMap: {
                      type: 'string',
                      minLength: 1,
                      maxLength: 253,
                      pattern: '^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$',
                    },
                    secret: {
                      type: 'string',
                      minLength: 1,
                      maxLength: 253,
                      pattern: '^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$',
                    },
                    key: { type: 'string', minLength: 1, maxLength: 253, pattern: '^[-._a-zA-Z0-9]+$' },
                  },
                  additionalProperties: false,
                },
                clientCertificateSecretRef: {
                  type: 'object',
                  required: ['name'],
                  properties: {
                    name: {
                      type: 'string',
                      minLength: 1,
                      maxLength: 253,
                      pattern: '^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$',
                    },
                  },
                  additionalProperties: false,
                },
                serverName: { type: 'string', minLength: 1, maxLength: 253, pattern: '^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$' },
              },
              additionalProperties: false,
            },
          },
          additionalProperties: false,
        },
      },
      additionalProperties: false,
    },
    receipt: { type: 'boolean' },
    incremental: {
      type: 'object',
      properties: {
        base: { type: 'string', minLength: 1, maxLength: 1024 },
        tracker: { type: 'string', minLength: 1, maxLength: 1024 },
        changes: { type: 'string', enum: ['Auto', 'BlockHashes', 'SnapshotMetadata'], default: 'Auto' },
        fallback: { type: 'string', enum: ['Full', 'Fail'], default: 'Full' },
      },
      additionalProperties: false,
    },
    checksum: { type: 'string', enum: ['SHA256', 'None'], default: 'SHA256' },
    backoffLimit: { type: 'integer', minimum: 0, maximum: 1000, default: 8 },
    activeDeadlineSeconds: { type: 'integer', minimum: 1, maximum: 2147483647 },
    ttlSecondsAfterFinished: { type: 'integer', minimum: 0, maximum: 2147483647 },
    cancel: { type: 'boolean', default: false },
  },
  additionalProperties: false,
};
