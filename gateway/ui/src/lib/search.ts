// Finding names by parts of them.

/** The names that contain every word of the search, those that start with it first. */
export function searchNames(names: readonly string[], search: string): string[] {
  const words = search.toLowerCase().split(/\s+/).filter((word) => word !== '');
  const [first] = words;
  if (first === undefined) return [...names];
  const found = names.filter((name) => {
    const lower = name.toLowerCase();
    return words.every((word) => lower.includes(word));
  });
  const leading = (name: string): number => (name.toLowerCase().startsWith(first) ? 0 : 1);
  return found.sort((a, b) => leading(a) - leading(b));
}
