<?php

declare(strict_types=1);

namespace Postrider;

/** Verifies the webhook calls of a node, which are signed as Standard Webhooks say. */
final class Webhook
{
    /** How old, and how far in the future, a call may be, in seconds. */
    public const TOLERANCE = 300;

    /** @var list<string> */
    private readonly array $keys;

    /** Takes the webhook-secret of the node. More than one may be given while a secret is replaced. */
    public function __construct(#[\SensitiveParameter] string ...$secrets)
    {
        $decode = static fn (string $secret): string => (string) base64_decode(preg_replace('/^whsec_/', '', $secret), true);
        $keys = array_map($decode, $secrets);
        if ($keys === [] || in_array('', $keys, true)) {
            throw new \InvalidArgumentException('the secret of the webhook is empty, or not base64');
        }
        $this->keys = array_values($keys);
    }

    /**
     * Returns the entries of a call, or throws InvalidSignature.
     *
     * @param string                $body    as it came: file_get_contents('php://input')
     * @param array<string, string> $headers by their names, in any case, or $_SERVER
     *
     * @return list<array<string, mixed>>
     */
    public function verify(string $body, array $headers, ?int $now = null): array
    {
        $headers = array_change_key_case($headers);
        $id = self::header($headers, 'id');
        $timestamp = self::header($headers, 'timestamp');
        if (!ctype_digit($timestamp)) {
            throw new InvalidSignature('webhook-timestamp is not a number');
        }
        if (abs(($now ?? time()) - (int) $timestamp) > self::TOLERANCE) {
            throw new InvalidSignature('the call is too old or from the future');
        }
        if (!$this->isSigned("$id.$timestamp.$body", self::header($headers, 'signature'))) {
            throw new InvalidSignature('the signature is wrong');
        }

        return json_decode($body, true, flags: JSON_THROW_ON_ERROR)['items'] ?? [];
    }

    /** @param array<string, string> $headers */
    private static function header(array $headers, string $name): string
    {
        return $headers["webhook-$name"]
            ?? $headers["http_webhook_$name"]
            ?? throw new InvalidSignature("webhook-$name is missing");
    }

    private function isSigned(string $text, string $signatures): bool
    {
        foreach ($this->keys as $key) {
            $own = 'v1,' . base64_encode(hash_hmac('sha256', $text, $key, true));
            foreach (explode(' ', $signatures) as $given) {
                if (hash_equals($own, $given)) {
                    return true;
                }
            }
        }

        return false;
    }
}
