/** The picture of a disk: a grid of cells, each one stretch of the disk, coloured by what it holds and what of it was sent. */

const TALLEST_PX = 200;
const [SMALLEST_CELL_PX, LARGEST_CELL_PX] = [3, 14];

/** @param {{shares: string, cellCount: number}} map as the API has it */
export function decodeMap({ shares, ...map }) {
  const bytes = Uint8Array.from(atob(shares), (character) => character.charCodeAt(0));
  return { ...map, shareOfData: (cell) => bytes[2 * cell] / 255, shareOfZeros: (cell) => bytes[2 * cell + 1] / 255 };
}

/** How the cells lie in a picture so wide. */
export function layOut(cellCount, widthPx) {
  const ideal = Math.floor(Math.sqrt((widthPx * TALLEST_PX) / Math.max(1, cellCount)));
  const cellPx = Math.min(LARGEST_CELL_PX, Math.max(SMALLEST_CELL_PX, ideal));
  const columns = Math.max(1, Math.floor(widthPx / cellPx));
  return { cellPx, columns, rows: Math.ceil(cellCount / columns) };
}

/** Cells in front of which all data has been sent. */
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
    // Whatever data there is must be seen.
    context.globalAlpha = Math.max(0.35, data);
    context.fillStyle = cell < sent ? colours.sent : colours.data;
    context.fillRect(x, y, sizePx, sizePx);
  }
}
