/** Tables of pages that are made from code. */

/** As the formatter leaves it: columns as wide as their widest cell. @param rows the head first */
export function markdownTable(rows: readonly string[][]): string[] {
  const [head = []] = rows;
  const widths = head.map((_, column) => Math.max(...rows.map((cells) => (cells[column] ?? '').length)));
  const line = (cells: readonly string[]) => `| ${cells.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join(' | ')} |`;
  const [first, ...rest] = rows.map(line);
  return [first ?? '', `| ${widths.map((width) => '-'.repeat(width)).join(' | ')} |`, ...rest];
}
