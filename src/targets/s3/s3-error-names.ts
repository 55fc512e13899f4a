/** Names of S3's errors with their meanings ("Error responses" in the API reference of Amazon S3). Other servers use the same names. */

export type Meanings = Readonly<Record<string, string>>;

/** The credentials are wrong or not sufficient. Not retryable. */
export const REFUSED: Meanings = {
  InvalidAccessKeyId: 'the access key is not known',
  // Error names of versitygw.
  XAdminUserNotFound: 'the access key is not known',
  SignatureDoesNotMatch: 'the secret key does not belong to the access key',
  AccessDenied: 'the credentials do not allow it',
  InvalidToken: 'the session token is not valid',
  CredentialsProviderError: 'no credentials were found',
  ExpiredToken: 'the credentials have expired',
  TokenRefreshRequired: 'the credentials have expired',
};

/** Not retryable, even with a status that is retryable otherwise. */
export const REJECTED: Meanings = {
  NoSuchBucket: 'there is no such bucket',
  PermanentRedirect: 'the bucket is in another region or at another endpoint',
  AuthorizationHeaderMalformed: 'the bucket is in another region',
  EntityTooLarge: 'the image is too large for the server',
  EntityTooSmall: 'the server wants larger parts: set partSize',
  InvalidBucketName: 'the name of the bucket is not valid',
  KeyTooLongError: 'the key is too long',
  NotImplemented: 'the server does not know this kind of request',
  PreconditionFailed:
    'there is an object at the key already, perhaps from a request of this export whose answer was lost; the server replaces none',
  // Error names of Alibaba Cloud OSS.
  SecondLevelDomainForbidden: 'the server wants the bucket in the host name: set forcePathStyle: false',
};

/** Retryable in spite of 4xx: the next attempt finds the parts or the upload that are gone. */
export const PASSING: Meanings = {
  NoSuchUpload: 'the upload is not there any more',
  InvalidPart: 'a part is not there any more',
  RequestTimeout: 'the server has waited too long for bytes',
  RequestTimeTooSkewed: 'the clocks differ too much',
  BadDigest: 'the bytes arrived changed',
  XAmzContentSHA256Mismatch: 'the bytes arrived changed',
  SlowDown: 'the server asks for fewer requests',
  OperationAborted: 'another request is changing the same object',
  ConditionalRequestConflict: 'another request is changing the same object',
};

const QUOTA = 'the quota is used up';
const NO_SPACE = 'the server has no space left';

/** Retryable, because old images are removed all the time. Most come as 403, but the credentials are not the cause. */
export const FULL: Meanings = {
  // Error names of Ceph RGW, MinIO and OpenStack Swift.
  QuotaExceeded: QUOTA,
  XMinioAdminBucketQuotaExceeded: QUOTA,
  ServiceQuotaExceededException: QUOTA,
  XMinioStorageFull: NO_SPACE,
  StorageFull: NO_SPACE,
  InsufficientStorage: NO_SPACE,
};
