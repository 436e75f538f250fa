# frozen_string_literal: true

module Postrider
  module Mastodon
    # Modules that are prepended to Mastodon's classes.
    module Patches
      def self.apply
        ::ActivityPub::DeliveryWorker.singleton_class.prepend(Enqueuing)
        ::ActivityPub::DeliveryWorker.prepend(Performing)
        ::ActivityPub::UpdateDistributionWorker.prepend(SigningUpdates)
        ::DeliveryFailureTracker.prepend(Tracking)
        ::Admin::InstancesController.prepend(Administering)
      end

      def self.priority_of(worker) = worker <= ::ActivityPub::LowPriorityDeliveryWorker ? 'low' : 'normal'

      # ActivityPub::DeliveryWorker, on which all of Mastodon's deliveries are enqueued, and LowPriorityDeliveryWorker.
      # Other subclasses do more than deliver, so they keep their jobs, which hand over in Performing.
      module Enqueuing
        INBOXES = 10_000 # in a job

        def perform_async(*args) = hands_over? ? hand_over([args]).first : super

        def perform_in(interval, *args)
          return super unless hands_over?

          json, account_id, inbox, options = args
          HandOverWorker.perform_in(interval, json, account_id, [inbox], options || {}, Patches.priority_of(self))
        end
        alias perform_at perform_in

        def push_bulk(items, limit: INBOXES, &block)
          hands_over? ? hand_over(block ? items.map(&block) : items) : super
        end

        def perform_bulk(items, **options) = hands_over? ? hand_over(items) : super

        private

        def hands_over? = [::ActivityPub::DeliveryWorker, ::ActivityPub::LowPriorityDeliveryWorker].include?(self)

        # Enqueues one job for each activity, and returns their IDs.
        def hand_over(jobs)
          alike = jobs.group_by { |json, account_id, _, options| [json, account_id, options || {}] }
          alike.flat_map do |(json, account_id, options), group|
            group.map { |job| job[2] }.each_slice(INBOXES).map do |inboxes|
              HandOverWorker.perform_async(json, account_id, inboxes, options, Patches.priority_of(self))
            end
          end
        end
      end

      # Jobs that were enqueued before Postrider came, and those of subclasses that do more than deliver.
      module Performing
        def perform(json, account_id, inbox, options = {})
          @source_account = ::Account.find(account_id) # subclasses use it
          HandOver.new(@source_account, options || {}, Patches.priority_of(self.class)).call(json, [inbox], jid)
        end
      end

      # The Update that announces a new key is signed by the old one, which receivers know. Mastodon signs only the
      # document by it.
      module SigningUpdates
        protected

        def options
          sign_with = (@options || {})['sign_with']
          sign_with = sign_with.to_hash if sign_with.is_a?(Hash) # Sidekiq takes no subclass of Hash
          sign_with ? super.merge('sign_with' => sign_with) : super
        end
      end

      # Mastodon calls reset! when a host has sent it something. That does not prove that the host can be reached, so the
      # node only probes it sooner.
      module Tracking
        SEEN = 60 # seconds in which the node is told once

        def reset!
          return super if @resolution == :minutes # of a provider of other services
          return if available? && days.zero?
          return unless redis.set("postrider:seen:#{@host}", 1, nx: true, ex: SEEN)

          ::Postrider::Mastodon::Availability::HostWorker.perform_async(@host, 'seen')
        end
      end

      # The buttons on an administrator's page of a server.
      module Administering
        def stop_delivery = super.tap { act_on_host('block') }
        def restart_delivery = super.tap { act_on_host('unblock', 'reset') }
        def clear_delivery_errors = super.tap { act_on_host('reset') }

        private

        def act_on_host(*actions)
          ::Postrider::Mastodon::Availability::HostWorker.perform_async(@instance.domain, *actions)
        end
      end
    end
  end
end
