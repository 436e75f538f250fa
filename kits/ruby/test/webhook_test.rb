# frozen_string_literal: true

require_relative 'helper'

class WebhookTest < Minitest::Test
  # The test vector that the libraries of Standard Webhooks share.
  SECRET = 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw'
  AT = 1_614_265_330
  VECTOR = {
    'webhook-id' => 'msg_p5jXN8AQM9LWM0D4loKWxJek', 'webhook-timestamp' => AT.to_s,
    'webhook-signature' => 'v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE='
  }.freeze
  PAYLOAD = '{"test": 2432232314}'

  def verify(body, headers, at: AT, secrets: [SECRET]) = Postrider::Webhook.new(*secrets).verify(body, headers, now: Time.at(at))

  def refuse(body, headers, **options) = assert_raises(Postrider::Webhook::InvalidSignature) { verify(body, headers, **options) }

  def test_the_published_vector
    assert_nil verify(PAYLOAD, VECTOR) # it is no page of the feed
    assert_nil verify(PAYLOAD, VECTOR, secrets: [SECRET.delete_prefix('whsec_')])
    assert_nil verify(PAYLOAD, VECTOR.transform_keys { |name| "HTTP_#{name.upcase.tr('-', '_')}" })
  end

  def test_entries
    body = '{"items":[{"id":"1","type":"dead","inbox":"https://one.example/ü"}]}'
    key = SECRET.delete_prefix('whsec_').unpack1('m')
    signature = [OpenSSL::HMAC.digest('SHA256', key, "m.#{AT}.#{body}")].pack('m0')
    headers = { 'webhook-id' => 'm', 'webhook-timestamp' => AT.to_s, 'webhook-signature' => "v1,AAAA v1a,x v1,#{signature}" }
    assert_equal %w[1], verify(body.b, headers).map { |entry| entry['id'] }
    assert_equal %w[1], verify(body, headers, secrets: ['whsec_b3RoZXI=', SECRET]).map { |entry| entry['id'] }
  end

  def test_what_is_refused
    refuse("#{PAYLOAD} ", VECTOR)
    refuse(PAYLOAD, VECTOR, secrets: ['whsec_b3RoZXI='])
    refuse(PAYLOAD, VECTOR, at: AT + 301)
    refuse(PAYLOAD, VECTOR, at: AT - 301)
    refuse(PAYLOAD, VECTOR.merge('webhook-id' => 'other'))
    refuse(PAYLOAD, VECTOR.merge('webhook-timestamp' => "#{AT}x"))
    refuse(PAYLOAD, VECTOR.merge('webhook-signature' => VECTOR['webhook-signature'].sub('v1,', 'v2,')))
    VECTOR.each_key { |name| refuse(PAYLOAD, VECTOR.except(name)) }
  end

  def test_an_empty_secret_is_refused
    assert_raises(ArgumentError) { Postrider::Webhook.new('') }
    assert_raises(ArgumentError) { Postrider::Webhook.new }
  end
end
