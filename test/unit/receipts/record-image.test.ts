import assert from 'node:assert/strict';
import { imageTag } from '../../../src/receipts/record-image.ts';

describe('the tag of an image in its receipt', () => {
  const sizeBytes = 1000;
  const [own, other] = ['"own"', '"other"'];

  it('is the one that the server shows afterwards, where its answer to the transfer states none', () => {
    assert.equal(imageTag({ sizeBytes }, { sizeBytes, etag: `W/${own}` }), own);
    assert.equal(imageTag({ sizeBytes }, { sizeBytes: 999, etag: other }), undefined, 'of another file');
    assert.equal(imageTag({ sizeBytes }, undefined), undefined);
  });

  it('is the notation of the server where both are one tag', () => {
    assert.equal(imageTag({ sizeBytes, etag: 'own' }, { sizeBytes, etag: own }), own);
  });

  it('stays the tag of the transfer when another export has replaced the image meanwhile', () => {
    assert.equal(imageTag({ sizeBytes, etag: own }, { sizeBytes, etag: other }), own);
    assert.equal(imageTag({ sizeBytes, etag: own }, { sizeBytes: 999, etag: other }), own);
    assert.equal(imageTag({ sizeBytes, etag: own }, undefined), own);
  });
});
