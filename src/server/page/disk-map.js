/** The picture of a disk: a grid of cells, each one equal part of the disk, coloured by its content and by whether it was sent. */

const MAX_HEIGHT_PX = 200;
const [MIN_CELL_PX, MAX_CELL_PX] = [3, 14];

/** @param {{shares: string, cellCount: number}} map as the API has it */
export function decodeMap({ shares, ...map }) {
  const bytes = Uint8Array.from(atob(shares), (character) => character.charCodeAt(0));
  return { ...map, shareOfData: (cell) => bytes[2 * cell] / 255, shareOfZeros: (cell) => bytes[2 * cell + 1] / 255 };
}

/** Computes the rows and columns of cells for a width. */
export function layOut(cellCount, widthPx) {
  const ideal = Math.floor(Math.sqrt((widthPx * MAX_HEIGHT_PX) / Math.max(1, cellCount)));
  const cellPx = Math.min(MAX_CELL_PX, Math.max(MIN_CELL_PX, ideal));
  const columns = Math.max(1, Math.floor(widthPx / cellPx));
  return { cellPx, columns, rows: Math.ceil(cellCount / columns) };
}

/** @returns number of cells before which all data has been sent */
export function sentCells({ cellCount, totalClusters }, sentUntilCluster) {
  return sentUntilCluster >= totalClusters ? cellCount : Math.floor((sentUntilCluster * cellCount) / totalClusters);
}

const NAMES = ['hole', 'zero', 'data', 'sent'];

function coloursOf(canvas) {
  const style = getComputedStyle(canvas);
  return Object.fromEntries(NAMES.map((name) => [name, style.getPropertyValue(`--map-${name}`).trim()]));
}

/** Draws only what is to be seen of `map`; the canvas gets the size that it needs. */
export function drawDiskMap(canvas, map, sentUntilCluster) {
  const widthPx = canvas.parentElement.clientWidth;
  if (widthPx === 0) return;
  const { cellPx, columns, rows } = layOut(map.cellCount, widthPx);
  const scale = window.devicePixelRatio || 1;
  canvas.width = Math.round(columns * cellPx * scale);
  canvas.height = Math.round(rows * cellPx * scale);
  canvas.style.width = `${columns * cellPx}px`;
  canvas.style.height = `${rows * cellPx}px`;
  canvas.dataset.columns = String(columns);
  canvas.dataset.cell = String(cellPx * scale);
  canvas.dataset.cells = String(map.cellCount);
  const context = canvas.getContext('2d');
  context.scale(scale, scale);
  const colours = coloursOf(canvas);
  const gapPx = cellPx > 5 ? 1 : cellPx > 3 ? 0.5 : 0;
  const sent = sentCells(map, sentUntilCluster);
  for (let cell = 0; cell < map.cellCount; cell += 1) {
    const [x, y] = [(cell % columns) * cellPx, Math.floor(cell / columns) * cellPx];
    const sizePx = cellPx - gapPx;
    const [data, zeros] = [map.shareOfData(cell), map.shareOfZeros(cell)];
    context.globalAlpha = 1;
    context.fillStyle = zeros > 0 && data + zeros > 0.5 ? colours.zero : colours.hole;
    context.fillRect(x, y, sizePx, sizePx);
    if (data === 0) continue;
    // Even a little data must be visible.
    context.globalAlpha = Math.max(0.35, data);
    context.fillStyle = cell < sent ? colours.sent : colours.data;
    context.fillRect(x, y, sizePx, sizePx);
  }
}
