/** The content ids that link a VMDK to its children (Virtual Disk Format 5.0, "The Descriptor File"). Pure. */

/** 8 digits of lower-case hex. */
export type ContentId = string;

/** Some programs write decimal, which reads as hex of up to 10 digits; some write 0x in front. */
const TEXT = /^(?:0x)?([0-9a-f]{1,16})$/i;
const MASK = 0xffff_ffffn;

/** Number of characters after the key in which the value is searched. */
const VALUE_CHARACTERS = 32;
const VALUE_FOR_QEMU = /^.\s*(?:0x)?[0-9a-f]/i;

/** @returns the id as QEMU reads it: the low 32 bits of a hexadecimal number; undefined for other text */
export function parseContentId(text: string): ContentId | undefined {
  const [, digits] = TEXT.exec(text) ?? [];
  return digits === undefined ? undefined : (BigInt(`0x${digits}`) & MASK).toString(16).padStart(8, '0');
}

/** QEMU searches the first CID and the first parentCID of the text, and parses a number one character after each. */
export function readsContentIdsAsQemu(text: string): boolean {
  return ['CID', 'parentCID'].every((key) => {
    const at = text.indexOf(key);
    return at >= 0 && VALUE_FOR_QEMU.test(text.slice(at + key.length, at + key.length + VALUE_CHARACTERS));
  });
}
