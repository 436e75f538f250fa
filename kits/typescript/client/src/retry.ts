/** The pause after n repetitions, in milliseconds: from 250 up to 15,000, with some chance in it. */
export function pause(n: number): number {
  return Math.min(250 * 2 ** n, 10_000) * (1 + Math.random() / 2);
}

/** Reads the header of RFC 9110, section 10.2.3: seconds or a date. Returns milliseconds, 0 if there is none. */
export function retryAfter(value: string | null): number {
  if (value === null) return 0;
  if (/^\d+$/.test(value)) return Number(value) * 1000;
  return Math.max(0, Date.parse(value) - Date.now()) || 0;
}

/** Resolves after the time, or when the signal ends. */
export async function sleep(ms: number, signal?: AbortSignal): Promise<void> {
  if (signal?.aborted) return;
  await new Promise<void>((resolve) => {
    const end = () => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", end);
      resolve();
    };
    const timer = setTimeout(end, ms);
    signal?.addEventListener("abort", end);
  });
}
