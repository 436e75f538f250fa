<?php

declare(strict_types=1);

namespace Postrider;

/** A call of the webhook must not be trusted: answer 401. */
final class InvalidSignature extends \RuntimeException
{
}
