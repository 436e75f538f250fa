# frozen_string_literal: true

module Postrider
  # The node refused a call, or could not be reached.
  class Error < StandardError
    # The HTTP status; 0 if there was no answer.
    attr_reader :status
    # The problem document of the answer (RFC 9457), as a Hash.
    attr_reader :problem
    # The seconds after which the node asked to be called again, or nil.
    attr_reader :retry_after

    def initialize(status, problem = {}, retry_after: nil)
      @status = status
      @problem = problem
      @retry_after = retry_after
      faults = errors.map { |fault| "#{fault['location']} #{fault['message']}" }
      super([status, problem['detail'], *faults].compact.join('; '))
    end

    # The faults of the call, each a Hash with location, message and code.
    def errors = problem['errors'] || []

    # Reports whether the same call may succeed later.
    def temporary? = status.zero? || status == 429 || status >= 500

    # Reports whether the call was valid, but no inbox was accepted.
    def no_inbox_accepted? = problem['type'].to_s.end_with?('/problems/no-inbox-accepted')

    # Reports whether the Idempotency-Key belongs to an accepted call with other bytes.
    def idempotency_mismatch? = errors.any? { |fault| fault['code'] == 'idempotency_mismatch' }
  end
end
