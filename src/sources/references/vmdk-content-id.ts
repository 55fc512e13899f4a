/** The numbers by which a VMDK and its children know each other (Virtual Disk Format 5.0, "The Descriptor File"). Pure. */

/** 8 digits of lower-case hex. */
export type ContentId = string;

/** Some programs write it in decimal, which reads as hex of up to 10 digits; some write 0x in front. */
const TEXT = /^(?:0x)?([0-9a-f]{1,16})$/i;
const MASK = 0xffff_ffffn;

/** How far behind its key the value is looked for. */
const VALUE_CHARACTERS = 32;
const VALUE_FOR_QEMU = /^.\s*(?:0x)?[0-9a-f]/i;

/** @returns what QEMU makes of it: the low 32 bits of a hexadecimal number; undefined for what is none */
export function parseContentId(text: string): ContentId | undefined {
  const [, digits] = TEXT.exec(text) ?? [];
  return digits === undefined ? undefined : (BigInt(`0x${digits}`) & MASK).toString(16).padStart(8, '0');
}

/** QEMU looks for the first CID and the first parentCID of the text, and takes what is one character behind for a number. */
export function readsContentIdsAsQemu(text: string): boolean {
  return ['CID', 'parentCID'].every((key) => {
    const at = text.indexOf(key);
    return at >= 0 && VALUE_FOR_QEMU.test(text.slice(at + key.length, at + key.length + VALUE_CHARACTERS));
  });
}
