<?php
/**
 * Plugin Name: ActivityPub through Postrider
 * Description: Hands the activities of the ActivityPub plugin over to Postrider: one call for all inboxes of a batch.
 *
 * Put this file into wp-content/mu-plugins, the kit beside it in postrider/, and POSTRIDER_URL and POSTRIDER_TOKEN into the
 * environment. It needs the ActivityPub plugin 7 or later.
 *
 * The plugin's dispatcher announces each batch of inboxes, and then posts to each of them. The batch is handed over when it
 * is announced; the posts get the answer without being made. If the node is away they get 503, so the dispatcher tries them
 * again later.
 */

namespace Postrider\WordPress;

use Activitypub\Collection\Actors;
use Postrider\Client;
use Postrider\Error;

require_once __DIR__ . '/postrider/autoload.php';

final class Dispatch {
	/** @var array<string, array{json: string, status: int}> The batch in hand, by inbox. */
	private static array $batch = array();

	public static function init(): void {
		\add_action( 'activitypub_pre_send_to_inboxes', array( self::class, 'hand_over' ), 10, 3 );
		\add_filter( 'pre_http_request', array( self::class, 'answer' ), 10, 3 );
	}

	/** Hands a batch over. A batch that is tried again has the same Idempotency-Key. */
	public static function hand_over( string $json, array $inboxes, int $outbox_item_id ): void {
		$actor_id = \get_post( $outbox_item_id )->post_author;
		$key      = array(
			'key_id'          => Actors::get_by_id( $actor_id )->get_id() . '#main-key',
			'private_key_pem' => Actors::get_private_key( $actor_id ),
		);
		$batch    = "wordpress-$outbox_item_id-" . md5( $json . implode( ' ', $inboxes ) );
		try {
			( new Client( retries: 1 ) )->deliver( $json, key: $key, inboxes: $inboxes, idempotencyKey: $batch );
			$status = 202;
		} catch ( Error $e ) {
			\error_log( 'Postrider: ' . $e->getMessage() );
			$status = $e->isTemporary() ? 503 : 400;
		}
		self::$batch = array_fill_keys( $inboxes, array( 'json' => $json, 'status' => $status ) );
	}

	/** Answers the plugin's own posts of the batch; every other request of WordPress goes its way. */
	public static function answer( $response, array $arguments, string $url ) {
		$sent = self::$batch[ $url ] ?? null;
		if ( null === $sent || 'POST' !== ( $arguments['method'] ?? '' ) || ( $arguments['body'] ?? '' ) !== $sent['json'] ) {
			return $response;
		}

		return array(
			'headers'  => array(),
			'body'     => '',
			'response' => array( 'code' => $sent['status'], 'message' => '' ),
			'cookies'  => array(),
			'filename' => null,
		);
	}
}

Dispatch::init();
