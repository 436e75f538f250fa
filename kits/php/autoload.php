<?php

// For apps without Composer.
spl_autoload_register(static function (string $class): void {
    if (str_starts_with($class, 'Postrider\\')) {
        require __DIR__ . '/src/' . substr($class, strlen('Postrider\\')) . '.php';
    }
});
