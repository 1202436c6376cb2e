// The binary message of `mirage.v1`: one MessagePack array [type, pts_us, seq, bytes], and nothing else of MessagePack.

export const VIDEO = 1; // JPEG
export const AUDIO = 2; // PCM16, mono, 16 kHz
export const SAMPLE_RATE = 16000;

const FIX_ARRAY_4 = 0x94;
const UINT = [0xcc, 0xcd, 0xce, 0xcf]; // uint8, 16, 32, 64
const INT = [0xd0, 0xd1, 0xd2, 0xd3]; // int8, 16, 32, 64
const BIN = [0xc4, 0xc5, 0xc6]; // lengths of 8, 16, 32 bits
const LARGEST_HEADER = 1 + 9 + 9 + 9 + 5;

export class WireError extends Error {}

/** Returns the bytes of one message. `ptsUs` may be negative; every number is a safe integer. */
export function encode(type, ptsUs, seq, bytes) {
  const out = new Uint8Array(LARGEST_HEADER + bytes.length);
  const view = new DataView(out.buffer);
  let at = 0;
  view.setUint8(at++, FIX_ARRAY_4);
  for (const number of [type, ptsUs, seq]) at = putInteger(view, at, number);
  at = putLength(view, at, bytes.length);
  out.set(bytes, at);
  return out.subarray(0, at + bytes.length);
}

/** Reads one message from an ArrayBuffer; `bytes` is a view into it. Throws WireError on anything else. */
export function decode(buffer) {
  const view = new DataView(buffer);
  try {
    if (view.getUint8(0) !== FIX_ARRAY_4) throw new WireError("not an array of four");
    const [type, afterType] = getInteger(view, 1);
    const [ptsUs, afterPts] = getInteger(view, afterType);
    const [seq, afterSeq] = getInteger(view, afterPts);
    const [length, at] = getLength(view, afterSeq);
    const there = buffer.byteLength - at;
    if (there !== length) throw new WireError(`${length} bytes announced, ${there} there`);
    return { type, ptsUs, seq, bytes: new Uint8Array(buffer, at, length) };
  } catch (error) {
    if (error instanceof RangeError) throw new WireError("message is cut short");
    throw error;
  }
}

function putInteger(view, at, number) {
  if (!Number.isSafeInteger(number)) throw new WireError(`${number} is not a whole number that a double holds exactly`);
  if (number >= 0 && number < 128) {
    view.setUint8(at, number);
    return at + 1;
  }
  if (number >= 0 && number <= 0xffffffff) {
    view.setUint8(at, UINT[2]);
    view.setUint32(at + 1, number);
    return at + 5;
  }
  view.setUint8(at, INT[3]);
  view.setBigInt64(at + 1, BigInt(number));
  return at + 9;
}

function getInteger(view, at) {
  const tag = view.getUint8(at++);
  if (tag < 0x80) return [tag, at];
  if (tag >= 0xe0) return [tag - 0x100, at];
  switch (tag) {
    case UINT[0]: return [view.getUint8(at), at + 1];
    case UINT[1]: return [view.getUint16(at), at + 2];
    case UINT[2]: return [view.getUint32(at), at + 4];
    case UINT[3]: return [safe(view.getBigUint64(at)), at + 8];
    case INT[0]: return [view.getInt8(at), at + 1];
    case INT[1]: return [view.getInt16(at), at + 2];
    case INT[2]: return [view.getInt32(at), at + 4];
    case INT[3]: return [safe(view.getBigInt64(at)), at + 8];
    default: throw new WireError(`tag 0x${tag.toString(16)} where a whole number belongs`);
  }
}

function safe(big) {
  const number = Number(big);
  if (!Number.isSafeInteger(number)) throw new WireError(`${big} is larger than a double holds exactly`);
  return number;
}

function putLength(view, at, length) {
  if (length <= 0xffff) {
    view.setUint8(at, BIN[1]);
    view.setUint16(at + 1, length);
    return at + 3;
  }
  view.setUint8(at, BIN[2]);
  view.setUint32(at + 1, length);
  return at + 5;
}

function getLength(view, at) {
  switch (view.getUint8(at)) {
    case BIN[0]: return [view.getUint8(at + 1), at + 2];
    case BIN[1]: return [view.getUint16(at + 1), at + 3];
    case BIN[2]: return [view.getUint32(at + 1), at + 5];
    default: throw new WireError(`tag 0x${view.getUint8(at).toString(16)} where bytes belong`);
  }
}
