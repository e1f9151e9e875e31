// What the pages of watch and chat are made of, beside `elements.js`.

export * from "./elements.js";

// Asks the server of this page; null when the answer is what it was, given its tag in `tags`.
export async function ask(path, query, tags) {
  const url = query ? `${path}?${new URLSearchParams(query)}` : path;
  const headers = tags && tags.has(url) ? { "If-None-Match": tags.get(url) } : {};
  const reply = await fetch(url, { headers, cache: "no-store", credentials: "omit", redirect: "error" });
  if (reply.status === 304) return null;
  if (!reply.ok) throw new Error(`${reply.status} ${await reply.text()}`);
  if (tags) {
    tags.clear();
    if (reply.headers.get("ETag")) tags.set(url, reply.headers.get("ETag"));
  }
  return reply.json();
}

// How lines look: six colours and four patterns can be told apart; of more, colours in their order.
export const DASHES = [[], [6, 3], [6, 2, 1.5, 2], [1.5, 2.5]];

export function look(index, count, colours) {
  if (count > colours.length * DASHES.length) {
    return { colour: `hsl(${200 + (160 * index) / count} 65% 50%)`, dash: [], width: 1 };
  }
  const shift = Math.floor(index / colours.length / 2);
  return { colour: colours[index % colours.length], dash: DASHES[(index + shift) % DASHES.length], width: 1.7 };
}
