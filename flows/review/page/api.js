// Asks the server. Every function returns what the server answers, or throws an Error with its words.

async function ask(path, options = {}) {
  const response = await fetch(path, { credentials: "same-origin", ...options });
  if (!response.ok) {
    let words = `${response.status} ${response.statusText}`;
    try {
      const body = await response.json();
      words = body.error ?? JSON.stringify(body.detail ?? body);
    } catch {
      // The answer is no JSON; its status says enough.
    }
    throw new Error(words);
  }
  return response;
}

const query = (values) => new URLSearchParams(values).toString();

export const run = async () => (await ask("/api/run")).json();

export const samples = async (filters, start, signal) =>
  (await ask(`/api/samples?${query({ ...filters, start })}`, { signal })).json();

export const sample = async (video, expression, signal) =>
  (await ask(`/api/sample?${query({ video, expression })}`, { signal })).json();

export const explain = async (video, expression, frame) =>
  (await ask(`/api/explain?${query({ video, expression, frame })}`)).json();

const post = async (path, values, signal) =>
  (
    await ask(path, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(values),
      signal,
    })
  ).json();

export const decide = (wish) => post("/api/decisions", wish);

// Returns the mask of clicks and a box, and an image of the frame with it.
export async function prompt(shown, signal) {
  const { mask, jpeg } = await post("/api/prompt", shown, signal);
  const bytes = Uint8Array.from(atob(jpeg), (letter) => letter.charCodeAt(0));
  return { mask, image: await createImageBitmap(new Blob([bytes], { type: "image/jpeg" })) };
}

export async function frame(values, signal) {
  const response = await ask(`/api/frame?${query(values)}`, { signal });
  return createImageBitmap(await response.blob());
}
