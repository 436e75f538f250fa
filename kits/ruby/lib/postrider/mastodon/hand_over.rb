# frozen_string_literal: true

module Postrider
  module Mastodon
    # Hands one activity for many inboxes over to the node: one Sidekiq job for each activity, not one for each inbox. The
    # job is repeated while the node is away.
    class HandOverWorker
      include ::Sidekiq::Worker

      sidekiq_options queue: 'push', retry: 16, dead: false

      def perform(json, account_id, inboxes, options = {}, priority = 'normal')
        account = ::Account.find_by(id: account_id)
        HandOver.new(account, options || {}, priority).call(json, inboxes, jid) if account
      end
    end

    # One activity of an account. options are those of Mastodon's delivery jobs.
    class HandOver
      def initialize(account, options, priority)
        @account = account
        @options = options.transform_keys(&:to_s)
        @priority = @options['bypass_availability'] ? 'high' : priority
      end

      # Makes the call. It raises an Error if the job has to be repeated.
      def call(json, inboxes, jid)
        idempotency_key = jid && "sidekiq-#{jid}"
        Mastodon.client.deliver(json, key:, priority: @priority, final_statuses:, idempotency_key:, **audience(inboxes))
      rescue Error => e
        raise if e.temporary? || [401, 403].include?(e.status)

        # A mismatch means that an earlier run of this job was accepted, and its answer lost.
        ::Rails.logger.error("postrider refused an activity: #{e.message}") unless e.idempotency_mismatch?
      end

      private

      # The key that signs. An old key that Mastodon names in sign_with signs this activity alone.
      def key
        pair = signing_pair
        pair[:pin] = true if @options['sign_with']
        pair
      end

      def signing_pair
        sign_with = @options['sign_with']
        if defined?(::Keypair) && ::Keypair.respond_to?(:from_worker_arg)
          pair = sign_with ? ::Keypair.from_worker_arg(@account, sign_with) : current_pair
          { key_id: pair.full_uri, private_key_pem: pair.private_key }
        else # Mastodon up to 4.6: an account has one key
          key_id = ::ActivityPub::TagManager.instance.key_uri_for(@account)
          { key_id:, private_key_pem: sign_with || @account.private_key }
        end
      end

      # Mastodon 4.7 signs by the oldest key of its table that is usable, or by the account's key of before.
      def current_pair = @account.keypairs.usable.rsa.order(:id).first || ::Keypair.from_legacy_account(@account)

      # A receiver that can no longer fetch the key of a deleted account answers 401 for ever.
      def final_statuses
        gone = %i[permanently_unavailable? suspended_permanently?].find { |name| @account.respond_to?(name) }
        [401] if gone && @account.public_send(gone)
      end

      def audience(inboxes)
        disabled = ENV['DISABLE_FOLLOWERS_SYNCHRONIZATION'] == 'true'
        return { inboxes: } if disabled || !@options['synchronize_followers']

        recipients = inboxes.map do |inbox|
          { inbox:, headers: { 'Collection-Synchronization' => synchronization(inbox) } }
        end
        { recipients: }
      end

      # FEP-8fcf: the digest differs by host, so Mastodon's own worker makes the header for each inbox.
      def synchronization(inbox)
        worker = ::ActivityPub::DeliveryWorker.new
        worker.instance_variable_set(:@source_account, @account)
        worker.instance_variable_set(:@inbox_url, inbox)
        worker.send(:synchronization_header)
      end
    end
  end
end
