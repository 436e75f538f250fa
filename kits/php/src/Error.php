<?php

declare(strict_types=1);

namespace Postrider;

/** The node refused a call, or could not be reached. */
final class Error extends \RuntimeException
{
    /**
     * @param int                  $status     the HTTP status; 0 if there was no answer
     * @param array<string, mixed> $problem    the problem document of the answer (RFC 9457)
     * @param int|null             $retryAfter the seconds after which the node asked to be called again
     */
    public function __construct(
        public readonly int $status,
        public readonly array $problem,
        public readonly ?int $retryAfter = null,
    ) {
        $faults = array_map(static fn (array $fault): string => "{$fault['location']} {$fault['message']}", $this->errors());
        parent::__construct(implode('; ', [$status, $problem['detail'] ?? '', ...$faults]));
    }

    /**
     * The faults of the call.
     *
     * @return list<array{location: string, message: string, code: string}>
     */
    public function errors(): array
    {
        return $this->problem['errors'] ?? [];
    }

    /** Reports whether the same call may succeed later. */
    public function isTemporary(): bool
    {
        return $this->status === 0 || $this->status === 429 || $this->status >= 500;
    }

    /** Reports whether the call was valid, but no inbox was accepted. */
    public function isNoInboxAccepted(): bool
    {
        return str_ends_with($this->problem['type'] ?? '', '/problems/no-inbox-accepted');
    }

    /** Reports whether the Idempotency-Key belongs to an accepted call with other bytes. */
    public function isIdempotencyMismatch(): bool
    {
        return in_array('idempotency_mismatch', array_column($this->errors(), 'code'), true);
    }
}
