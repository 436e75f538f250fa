# frozen_string_literal: true

require 'json'
require 'openssl'

module Postrider
  # Verifies the webhook calls of a node, which are signed as Standard Webhooks say.
  class Webhook
    # The call must not be trusted: answer 401.
    class InvalidSignature < StandardError; end

    # How old, and how far in the future, a call may be, in seconds.
    TOLERANCE = 300

    # Takes the webhook-secret of the node. More than one may be given while a secret is replaced.
    def initialize(*secrets)
      @keys = secrets.map { |secret| secret.delete_prefix('whsec_').unpack1('m') }
      raise ArgumentError, 'the secret of the webhook is empty' if @keys.empty? || @keys.any?(&:empty?)
    end

    # Returns the entries of a call, or raises InvalidSignature. body is the text as it came. headers responds to [], with
    # names in lower case, as the headers of Rails, or as those of Rack (HTTP_WEBHOOK_ID …).
    def verify(body, headers, now: Time.now)
      id, timestamp, signatures = %w[id timestamp signature].map { |name| header(headers, name) }
      age = now.to_i - Integer(timestamp, 10)
      raise InvalidSignature, 'the call is too old or from the future' if age.abs > TOLERANCE
      raise InvalidSignature, 'the signature is wrong' unless signed?("#{id}.#{timestamp}.#{body}", signatures)

      JSON.parse(body)['items']
    rescue ArgumentError
      raise InvalidSignature, 'webhook-timestamp is not a number'
    end

    private

    def header(headers, name)
      headers["webhook-#{name}"] || headers["HTTP_WEBHOOK_#{name.upcase}"] ||
        raise(InvalidSignature, "webhook-#{name} is missing")
    end

    def signed?(text, signatures)
      expected = @keys.map { |key| "v1,#{[OpenSSL::HMAC.digest('SHA256', key, text)].pack('m0')}" }
      signatures.split.any? { |given| expected.any? { |own| OpenSSL.secure_compare(own, given) } }
    end
  end
end
