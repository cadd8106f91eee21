-module(portmapper_text_tests).

-include_lib("eunit/include/eunit.hrl").

address_test_() ->
    [
        ?_assertEqual(Text, lists:flatten(portmapper_text:address(Address)))
     || {Text, Address} <- [
            {"0.0.0.0:0", {{0, 0, 0, 0}, 0}},
            {"192.0.2.1:4369", {{192, 0, 2, 1}, 4369}},
            {"[::]:4369", {{0, 0, 0, 0, 0, 0, 0, 0}, 4369}},
            {"[::1]:65535", {{0, 0, 0, 0, 0, 0, 0, 1}, 65535}},
            {"[2001:db8::1]:1", {{16#2001, 16#db8, 0, 0, 0, 0, 0, 1}, 1}}
        ]
    ].

holder_test_() ->
    All = #{program => <<"beam.smp">>, pid => 123, user => <<"root">>},
    [
        ?_assertEqual(Text, lists:flatten(io_lib:format("~ts", [portmapper_text:holder(Holder)])))
     || {Text, Holder} <- [
            {"beam.smp (pid 123, user root)", All},
            {"beam.smp (pid 123)", maps:remove(user, All)},
            {"a process of user root", maps:with([user], All)},
            {"a process that cannot be seen from here", #{}},
            {"a process that cannot be seen from here", unknown}
        ]
    ].

error_test_() ->
    [
        ?_assertEqual(Text, unicode:characters_to_list(portmapper:format_error(Reason)))
     || {Text, Reason} <- errors()
    ].

errors() ->
    Local = #{address => {127, 0, 0, 1}, port => 65535},
    Wrong = bad_config(port, x, <<"a number">>),
    [
        {"port is x, expected a number", Wrong},
        {"port is x, expected a number", {Wrong, {portmapper_app, start, [normal, []]}}},
        {"port is x, expected a number",
            {portmapper, {Wrong, {portmapper_app, start, [normal, []]}}}},
        {"\"port\" is \"tschüß\", expected a number", bad_config("port", "tschüß", <<"a number">>)},
        {"cannot listen on 127.0.0.1:65535: the port is in use by épmd (pid 7). Stop that "
         "process, or take another port: make run PORT=1, ERL_EPMD_PORT=1 in the environment, "
         "or {port, 1} for the application portmapper",
            {address_in_use, Local#{holder => #{pid => 7, program => <<"épmd"/utf8>>}}}},
        {"cannot listen on 127.0.0.1:65535: the port is in use by a process that cannot be seen "
         "from here. Stop that process, or take another port: make run PORT=1, ERL_EPMD_PORT=1 "
         "in the environment, or {port, 1} for the application portmapper",
            {address_in_use, Local#{holder => unknown}}},
        {"cannot listen on [::1]:1: no such address",
            {cannot_bind, #{
                address => {0, 0, 0, 0, 0, 0, 0, 1}, port => 1, reason => <<"no such address">>
            }}},
        {"17 addresses, expected at most 16, loopback addresses included",
            {too_many_addresses, #{count => 17}}},
        {"cannot start the server's thread: no memory",
            {cannot_start_thread, #{reason => <<"no memory">>}}},
        {"cannot load the library: not found",
            {cannot_load_library, #{reason => load_failed, text => "not found"}}},
        {"cannot take over: no portmapper at /run/a: gone",
            {no_port_mapper, #{path => <<"/run/a">>, reason => <<"gone">>}}},
        {"cannot take over: /run/a is another user's",
            {takeover_not_permitted, #{path => <<"/run/a">>}}},
        {"cannot take over, the other portmapper goes on: timed out",
            {takeover_failed, #{reason => <<"timed out">>}}}
        | [
            {"cannot take over: " ++ Text, {takeover_refused, #{reason => Reason}}}
         || {Reason, Text} <- [
                {taken_over, "another one has just taken over"},
                {version, "the other portmapper is newer than this one"},
                {not_permitted, "the other portmapper is another user's"}
            ]
        ]
    ] ++ [
        {"raise_file_limit takes effect at the start only",
            {needs_restart, #{key => raise_file_limit}}},
        {"closed", closed},
        {"{some,\"other\"}", {some, "other"}}
    ].

bad_config(Key, Value, Expected) ->
    {bad_config, #{key => Key, value => Value, expected => Expected}}.

%% However long a value is, its error is one line.
a_long_value_stays_on_one_line_test() ->
    Text = portmapper:format_error(bad_config(port, lists:seq(1000, 1200), <<"less">>)),
    ?assertEqual(nomatch, string:find(Text, "\n")).
