# frozen_string_literal: true

module Postrider
  module Mastodon
    # Keeps Mastodon's view of hosts equal to the node's: the table of unavailable domains, which Mastodon looks at when it
    # collects inboxes, and the days of failures on the pages of administrators.
    module Availability
      INTERVAL = 30 # seconds between two looks at the feed
      REFRESH = 3600 # seconds between two looks at all hosts, as days of failures are no entry of the feed
      CURSOR = 'postrider:feed'
      GONE = %w[unavailable blocked].freeze

      # Makes calls on a host, and takes over the host's state from the answer.
      class HostWorker
        include ::Sidekiq::Worker

        sidekiq_options queue: 'push', retry: 16, dead: false

        def perform(host, *actions)
          view = actions.map { |action| Mastodon.client.host_action(host, action) }.last
          Availability.with_redis { |redis| Availability.apply(redis, view) }
        end
      end

      class << self
        # Starts the thread of a Sidekiq process. All processes may have one: they share the cursor, and what two of them
        # read is the same twice.
        def start
          Thread.new do
            loop do
              tick
              sleep INTERVAL
            end
          end
        end

        def tick
          ::Rails.application.executor.wrap { synchronize }
        rescue StandardError => e
          ::Rails.logger.warn("postrider: the availability of hosts is not up to date: #{e.message}")
        end

        # Reads all hosts, if it is time, and then what has changed in the feed.
        def synchronize
          with_redis do |redis|
            cursor = refreshed(redis) || redis.get(CURSOR)
            hosts = {}
            cursor = follow(redis, cursor) { |entries| entries.each { |entry| hosts[entry['host']] = entry } }
            hosts.each_value { |entry| apply(redis, view_of(entry)) }
            redis.set(CURSOR, cursor)
          end
        end

        # Takes over the state of a host.
        def apply(redis, view)
          domain = domain_of(view)
          GONE.include?(view['state']) ? mark(domain) : clear(domain)
          count_days(redis, domain, view)
        end

        def with_redis(&block) = Object.new.extend(::Redisable).with_redis(&block)

        private

        # Reads all hosts at the first time, and then hourly. Returns the cursor of before, if there was none.
        def refreshed(redis)
          return if @refreshed_at && clock - @refreshed_at < REFRESH && redis.get(CURSOR)

          start = Mastodon.client.feed(after: 'now') unless redis.get(CURSOR)
          refresh(redis)
          @refreshed_at = clock
          start
        end

        # A domain that Mastodon found to be unavailable itself stays so until the node has delivered to it.
        def refresh(redis)
          Mastodon.client.hosts.each do |view|
            domain = domain_of(view)
            if GONE.include?(view['state'])
              mark(domain)
            elsif view['last_success_at']
              clear(domain)
            end
            count_days(redis, domain, view)
          end
        end

        # A node that no longer has what comes after the cursor refuses it: the next look is at all hosts.
        def follow(redis, cursor, &block)
          Mastodon.client.feed(after: cursor, type: 'host_state', &block)
        rescue Error => e
          redis.del(CURSOR) unless e.temporary?
          raise
        end

        # A healthy host has no failures, so nothing has to be asked.
        def view_of(entry) = entry['state'] == 'healthy' ? entry : Mastodon.client.host(entry['host'])

        # Mastodon's domains have no port.
        def domain_of(view) = view['host'].sub(/:\d+\z/, '')

        def mark(domain) = ::UnavailableDomain.exists?(domain:) || ::UnavailableDomain.create(domain:)
        def clear(domain) = ::UnavailableDomain.find_by(domain:)&.destroy

        def count_days(redis, domain, view)
          key = "exhausted_deliveries:#{domain}"
          days = Array(view['failed_on']).map { |date| date.delete('-') }
          redis.del(key)
          redis.sadd(key, days) unless days.empty?
        end

        def clock = Process.clock_gettime(Process::CLOCK_MONOTONIC)
      end
    end
  end
end
