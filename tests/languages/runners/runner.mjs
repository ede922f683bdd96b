// Feeds a file of cases to generated modules, as tests/languages/protocol.py describes it.
//
//     node runner.mjs INDEX CASES RESULTS
//
// INDEX is a module that imports the generated ones: see tests/languages/javascript.py.

import { readFileSync, writeFileSync } from "node:fs";
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";

const END = 0xffffffff;
const HEAD_BYTES = 48;
const [PREPARE, ANSWER, VERSION] = [0, 1, 2];

const [indexPath, casesPath, resultsPath] = process.argv.slice(2);
const { CONTRACTS } = await import(pathToFileURL(resolve(indexPath)).href);
writeFileSync(resultsPath, Buffer.concat(readCases(readFileSync(casesPath)).flatMap(resultOf)));

function readCases(file) {
  const cases = [];
  for (let at = 0; file.readUInt32LE(at) !== END; ) {
    const head = Array.from({ length: 12 }, (_, i) => file.readUInt32LE(at + 4 * i));
    const [contract, kind, height, width, channels, bits, orientation, , , , version] = head;
    const payload = copied(file, at + HEAD_BYTES, head[8]);
    const palette = copied(file, at + HEAD_BYTES + padded(head[8]), head[9]);
    at += HEAD_BYTES + padded(head[8]) + padded(head[9]);
    cases.push({
      contract, kind, height, width, channels, bits, orientation, payload, palette, version,
    });
  }
  return cases;
}

function copied(file, from, bytes) {
  return file.buffer.slice(file.byteOffset + from, file.byteOffset + from + bytes);
}

function padded(bytes) {
  return Math.ceil(bytes / 8) * 8;
}

function resultOf(entry) {
  const { module, ...types } = CONTRACTS[entry.contract];
  try {
    return encoded(0, payloadOf(entry, module, types));
  } catch (error) {
    if (!(error instanceof module.FrameError)) {
      throw error;
    }
    return encoded(module.Fault[error.fault], Buffer.alloc(0));
  }
}

function encoded(status, payload) {
  const head = Buffer.alloc(8);
  head.writeUInt32LE(status, 0);
  head.writeUInt32LE(payload.length, 4);
  return [head, payload, Buffer.alloc(padded(payload.length) - payload.length)];
}

function payloadOf(entry, module, { source, output }) {
  switch (entry.kind) {
    case PREPARE: {
      const tensor = module.prepare(source === "image" ? frameOf(entry) : signalOf(entry));
      return Buffer.from(tensor.buffer, tensor.byteOffset, tensor.byteLength);
    }
    case ANSWER:
      return answered(entry, module, valuesOf(output, entry.payload, 0));
    case VERSION:
      module.requireVersion(entry.version);
      return Buffer.alloc(0);
    default:
      throw new Error(`unknown kind of case: ${entry.kind}`);
  }
}

// Types that no contract has stand for other numbers of bits.
function frameOf({ height, width, channels, bits, orientation, payload, palette }) {
  const type = { 8: Uint8Array, 16: Uint16Array }[bits] ?? Float64Array;
  const frame = { pixels: valuesOf(type, payload, 0), height, width, channels, orientation };
  return palette.byteLength === 0 ? frame : { ...frame, palette: valuesOf(type, palette, 1) };
}

function signalOf({ height, width, bits, payload }) {
  const type = { 16: Int16Array, 32: Float32Array }[bits] ?? Float64Array;
  return { samples: valuesOf(type, payload, 0), leads: height, length: width };
}

// Half a value cannot be had in JavaScript: `cut` is a number of values that is wrong as well.
function valuesOf(type, bytes, cut) {
  const isWhole = bytes.byteLength % type.BYTES_PER_ELEMENT === 0;
  return isWhole ? new type(bytes) : new type(cut);
}

function answered(entry, module, output) {
  if (module.labelMap) {
    return Buffer.from(module.labelMap(output));
  }
  if (module.boxes) {
    const found = module.boxes(output, entry.height, entry.width);
    return Buffer.concat([pair(found.length, 0), ...found.map(boxOf)]);
  }
  const { label, name, ranked } = module.answer(output);
  if (name !== module.LABELS[label]) {
    throw new Error(`label ${label} is called ${name}`);
  }
  return Buffer.concat([pair(label, 0), ...ranked.map(scoredOf)]);
}

function boxOf({ left, top, right, bottom, ...scored }) {
  const corners = Int32Array.of(left, top, right, bottom);
  return Buffer.concat([scoredOf(scored), Buffer.from(corners.buffer)]);
}

function scoredOf({ label, probability }) {
  return Buffer.concat([pair(label, 0), Buffer.from(Float64Array.of(probability).buffer)]);
}

function pair(first, second) {
  return Buffer.from(Uint32Array.of(first, second).buffer);
}
