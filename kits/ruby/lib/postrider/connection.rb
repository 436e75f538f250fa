# frozen_string_literal: true

require 'json'
require 'net/http'
require 'openssl'

require_relative 'error'
require_relative 'version'

module Postrider
  # Makes single HTTP calls, over one kept connection for each thread.
  class Connection
    AWAY = [SystemCallError, IOError, Timeout::Error, SocketError, OpenSSL::SSL::SSLError, Net::HTTPBadResponse,
            Net::HTTPHeaderSyntaxError, JSON::ParserError].freeze

    def initialize(uri, token, timeout)
      @uri = uri
      @timeout = timeout
      @headers = { 'Content-Type' => 'application/json', 'User-Agent' => "postrider-ruby/#{VERSION}" }
      @headers['Authorization'] = "Bearer #{token}" if token
      @slot = :"postrider_#{object_id}"
    end

    # Returns the answer, or raises an Error.
    def call(method, path, body, headers)
      request = Net::HTTP.const_get(method.capitalize).new(@uri.path.chomp('/') + path, @headers.merge(headers))
      request.body = body || ('{}' if method == :post)
      read(open.request(request))
    rescue *AWAY => e
      close
      raise Error.new(0, { 'detail' => "#{e.class}: #{e.message}" })
    end

    private

    def read(response)
      return parse(response) if response.is_a?(Net::HTTPSuccess)

      problem = response.content_type.to_s.end_with?('json') ? parse(response) : { 'detail' => response.message }
      retry_after = Integer(response['Retry-After'] || '', exception: false)
      raise Error.new(response.code.to_i, problem, retry_after:)
    end

    def parse(response) = response.body.to_s.empty? ? nil : JSON.parse(response.body)

    # The connection of this thread and process: a forked process must not write into its parent's.
    def open
      pid, http = Thread.current[@slot]
      return http if pid == Process.pid

      http = Net::HTTP.new(@uri.hostname, @uri.port)
      http.use_ssl = @uri.scheme == 'https'
      http.open_timeout = [@timeout, 5].min
      http.read_timeout = http.write_timeout = @timeout
      http.max_retries = 0 # the client repeats
      http.start
      Thread.current[@slot] = [Process.pid, http]
      http
    end

    def close
      _, http = Thread.current[@slot]
      Thread.current[@slot] = nil
      http&.finish
    rescue IOError
      nil # it was closed already
    end
  end
end
