import assert from 'node:assert/strict';
import { serverMessage } from '../../../src/network/server-message.ts';

const SECRET = 'wJalr/XUtn+FEMI K7MDENG%';

describe('the message of a server', () => {
  const shown: [text: string, line: string][] = [
    ['Quota exceeded', ' (Quota exceeded)'],
    ['<html><body><h1>No</h1>\r\n<p>Storage &amp; quota &#x2d; full</p></body></html>', ' (No Storage & quota - full)'],
    ['Speicher für ß voll\u0000\u001b[31m\u202e!', ' (Speicher für ß voll [31m !)'],
    ['see https://user:word@host/path?signature=abc', ' (see https://***@host/path?***)'],
    ['', ''],
    [' \n\t ', ''],
    ['a'.repeat(201), ` (${'a'.repeat(200)}...)`],
    ['a'.repeat(200), ` (${'a'.repeat(200)})`],
    ['&#99999999; &unknown; %zz \\u12', ' (&#99999999; &unknown; %zz \\u12)'],
  ];
  for (const [text, line] of shown)
    it(`is shown in one printable line: ${JSON.stringify(text.slice(0, 60))}`, () => assert.equal(serverMessage(text, [SECRET]), line));

  const encodings: Record<string, string> = {
    'as it is': SECRET,
    'in other letters': SECRET.toUpperCase(),
    'percent-encoded': encodeURIComponent(SECRET),
    'percent-encoded twice': encodeURIComponent(encodeURIComponent(SECRET)),
    'as a form writes it': encodeURIComponent(SECRET).replaceAll('%20', '+'),
    'in JSON': JSON.stringify(SECRET).replaceAll('/', '\\/'),
    'in JSON by code points': [...SECRET].map((each) => `\\u00${each.charCodeAt(0).toString(16)}`).join(''),
    'in XML by code points': [...SECRET].map((each) => `&#${each.charCodeAt(0)};`).join(''),
    'across tags': `${SECRET.slice(0, 5)}<b>${SECRET.slice(5)}</b>`,
    'across lines': `${SECRET.slice(0, 5)}\r\n${SECRET.slice(5)}`,
  };
  for (const [how, text] of Object.entries(encodings))
    it(`is not shown where it repeats a secret ${how}`, () => {
      assert.equal(serverMessage(`The key ${text} is wrong`, ['other', SECRET]), '');
    });

  it('is not shown where its end is the beginning of a secret', () => {
    assert.equal(serverMessage(`The key ${SECRET.slice(0, 9)}`, [SECRET]), '');
    assert.equal(serverMessage(`The key <b>${SECRET.slice(0, 3)}`, [SECRET]), '');
  });

  it('is shown beside secrets that are parts of ordinary words', () => {
    assert.equal(serverMessage('Access Denied', ['a', 'de', '']), ' (Access Denied)');
  });
});
