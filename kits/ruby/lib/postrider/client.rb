# frozen_string_literal: true

require 'json'
require 'securerandom'
require 'uri'

require_relative 'connection'

module Postrider
  # Calls a node. A client may be shared by threads and survives a fork.
  #
  # A call that got no answer, or 429, 502, 503 or 504, is repeated with growing waits, or after the time that the node
  # asked for. No call takes effect twice by that. A call that still fails raises an Error.
  class Client
    RETRIED = [0, 429, 502, 503, 504].freeze
    PAGE = 500

    # url and token default to the variables POSTRIDER_URL and POSTRIDER_TOKEN. timeout is in seconds, for each attempt.
    # retries is how often a call is repeated, max_wait the longest wait in seconds before a repetition: if the node asks
    # for more, the Error is raised at once, with its retry_after.
    def initialize(url: nil, token: nil, timeout: 30, retries: 4, max_wait: 15)
      url ||= ENV.fetch('POSTRIDER_URL', 'http://127.0.0.1:8080')
      token ||= ENV.fetch('POSTRIDER_TOKEN', nil)
      @connection = Connection.new(URI(url), token, timeout)
      @retries = retries
      @max_wait = max_wait
    end

    # Hands an activity over, and returns the answer: id, accepted, duplicates, rejected, url. If no inbox was accepted,
    # accepted is 0 and the inboxes are in rejected; that is no Error.
    #
    # activity is a String, which is sent byte for byte, or a Hash. key_id names a key that was put before; key brings it
    # along: { key_id:, private_key_pem:, pin: }. Each recipient is a Hash: inbox, shared_inbox, id or ids, headers.
    # options are the other members of the call: priority, ordering_key, expires_in, final_statuses, metadata.
    #
    # idempotency_key defaults to a random one, so repetitions by this client deliver nothing twice. Pass your own (such
    # as the ID of a job or of an outbox row) if your program may repeat the call too.
    def deliver(activity, key_id: nil, key: nil, inboxes: nil, recipients: nil, idempotency_key: nil, **options)
      rest = { key_id:, key:, inboxes:, recipients:, **options }.compact
      text = activity.is_a?(String) ? activity : JSON.generate(activity)
      body = %({"activity":#{text.dup.force_encoding(Encoding::UTF_8)},#{JSON.generate(rest)[1..]})
      call(:post, '/v1/activities', body, 'Idempotency-Key' => idempotency_key || SecureRandom.uuid)
    rescue Error => e
      raise unless e.no_inbox_accepted?

      rejected = e.errors.map { |fault| fault.slice('inbox', 'reason', 'detail') }
      { 'accepted' => 0, 'duplicates' => 0, 'rejected' => rejected }
    end

    # Stores or replaces a private key, in PEM.
    def put_key(key_id, private_key_pem) = call(:put, '/v1/keys', JSON.generate({ key_id:, private_key_pem: }))

    # Removes a key: at once, or with when_idle after the last delivery that waits to be signed by it.
    def delete_key(key_id, when_idle: false)
      call(:delete, path('/v1/keys', key_id:, when: when_idle ? 'idle' : nil))
    end

    # Enumerates the public halves of all keys.
    def keys = each('/v1/keys')

    # Enumerates hosts, filtered by state: or q:.
    def hosts(**filter) = each('/v1/hosts', **filter)

    # Returns a host.
    def host(name) = call(:get, host_path(name))

    # Enumerates what is pending for a host, in the order accepted.
    def host_deliveries(name) = each("#{host_path(name)}/deliveries")

    # pause, resume, block, unblock, reset, probe or seen. Returns the host.
    def host_action(name, action) = call(:post, "#{host_path(name)}/#{action}")

    # Yields what happened after a cursor, oldest first, until there is no more for now: pages of entries, each with the
    # cursor after it, which the caller keeps once it has handled the page. The last page has no entries. Returns the
    # last cursor. after 'now' begins at the end; nil at the oldest entry that the node still has. type and host filter,
    # each a String or an Array.
    def feed(after: nil, type: nil, host: nil, limit: PAGE)
      filter = { type: type && Array(type).join(','), host: host && Array(host).join(','), limit: }
      loop do
        page = call(:get, path('/v1/feed', after:, **filter))
        after = page['next_cursor']
        yield page['items'], after if block_given?
        return after if page['items'].empty?
      end
    end

    # Enumerates the items of any list of the API.
    def each(path, **query)
      return enum_for(:each, path, **query) unless block_given?

      loop do
        page = call(:get, path(path, limit: PAGE, **query))
        page['items'].each { |item| yield item }
        query[:cursor] = page['next_cursor']
        break unless query[:cursor]
      end
    end

    # Makes any call and returns the answer, nil if it has no body. body is a String of JSON.
    def call(method, path, body = nil, headers = {})
      tries = 0
      begin
        @connection.call(method, path, body, headers)
      rescue Error => e
        wait = e.retry_after || (0.25 * (2**tries) * rand(1.0..1.5))
        raise if tries >= @retries || !RETRIED.include?(e.status) || wait > @max_wait

        tries += 1
        sleep wait
        retry
      end
    end

    private

    def host_path(name) = "/v1/hosts/#{URI.encode_www_form_component(name)}"

    def path(path, **query)
      query = query.compact
      query.empty? ? path : "#{path}?#{URI.encode_www_form(query)}"
    end
  end
end
