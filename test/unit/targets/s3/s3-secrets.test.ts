import assert from 'node:assert/strict';
import { useS3Rig } from '../../../helpers/s3-rig.ts';

const KEYS = { accessKeyId: 'PLANTEDACCESSKEY', secretAccessKey: 'planted/secret+key', sessionToken: 'planted//session+token==' };

describe('s3 target and what a server repeats', () => {
  const rig = useS3Rig();
  const said = async (message: string, options = {}) => {
    const { failure } = await rig.send(
      { options },
      { operation: 'CreateMultipartUpload', does: { status: 400, code: 'Strange', message } },
    );
    return failure?.message.replace(/^.*: answered/, 'answered');
  };

  for (const [name, secret] of Object.entries(KEYS))
    it(`shows no message with the ${name} that it was given, and every other`, async () => {
      const options = { credentials: async () => KEYS };
      for (const text of [secret, encodeURIComponent(secret)]) assert.equal(await said(`no ${text}`, options), 'answered 400 Strange');
      assert.equal(await said('a sentence', options), 'answered 400 Strange (a sentence)');
    });

  it('shows no message with credentials that the SDK found, or with the user of a proxy', async () => {
    const before = { ...process.env };
    Object.assign(process.env, { AWS_ACCESS_KEY_ID: KEYS.accessKeyId, AWS_SECRET_ACCESS_KEY: 'x', AWS_SESSION_TOKEN: KEYS.sessionToken });
    try {
      for (const secret of [KEYS.accessKeyId, KEYS.sessionToken])
        assert.equal(await said(`no ${secret}`, { credentials: undefined }), 'answered 400 Strange');
    } finally {
      process.env = before;
    }
    const proxy = { httpProxy: 'http://planted-user:planted%20word@127.0.0.1:1', noProxy: '*' };
    for (const secret of ['planted-user', 'planted word', btoa('planted-user:planted word')])
      assert.equal(await said(`no ${secret}`, { proxy }), 'answered 400 Strange');
  });
});
