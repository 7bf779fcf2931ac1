// Offer rows as a CSV file.

/**
 * Save rows under a name.
 * @param {string} name
 * @param {string[]} columns
 * @param {(string | number)[][]} rows
 */
export function saveCsv(name, columns, rows) {
  const text = [columns, ...rows].map((row) => row.map(cell).join(",")).join("\r\n");
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob(["\ufeff", text, "\r\n"], { type: "text/csv" }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

/**
 * Quote a cell; a text that a spreadsheet would run as a formula gets an apostrophe. Spreadsheets of some languages
 * separate cells at semicolons or tabs.
 * @param {string | number} value
 */
function cell(value) {
  const text = typeof value === "string" && /^[=+\-@\t\r]/.test(value) ? `'${value}` : String(value);
  return /[",;\t\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
