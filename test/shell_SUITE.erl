%% `make run', as its user sees it.
-module(shell_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([suite/0, all/0]).
-export([
    the_shell_serves_and_answers/1,
    a_taken_port_is_told_in_one_message/1,
    a_wrong_port_is_told_in_one_message/1
]).

suite() ->
    [{timetrap, {minutes, 10}}].

all() ->
    [
        the_shell_serves_and_answers,
        a_taken_port_is_told_in_one_message,
        a_wrong_port_is_told_in_one_message
    ].

%% Runs the fun with a shell.
with_shell(Config, Port, Fun) ->
    %% Not where the suites are being run from.
    Base = filename:join(?config(priv_dir, Config), "build"),
    Environment = program:environment([{"REBAR_BASE_DIR", Base}]),
    Command = ["make", "run", "PORT=" ++ Port],
    Shell = program:start(Command, [{cd, program:root()}, {env, Environment}]),
    try
        Fun(Shell)
    after
        program:stop(Shell)
    end.

the_shell_serves_and_answers(Config) ->
    Port = own_vm:free_port(),
    Text = integer_to_list(Port),
    with_shell(Config, Text, fun(Shell) ->
        Started = program:await(Shell, "1> "),
        Listens = "notice: portmapper listens on 0\\.0\\.0\\.0:" ++ Text ++ "(, \\[::\\]:" ++ Text ++ ")?\n",
        ?assertMatch({match, [_]}, re:run(Started, Listens, [global, {capture, first}])),
        ?assertEqual(nomatch, re:run(Started, "error|warning", [caseless])),
        {ok, _, _} = testkit:register(Port, "n", 4711),
        _ = program:await(Shell, "info: node n is up: port 4711"),
        Answers = [
            {"portmapper:names().", "\\[{<<\"n\">>,4711}\\]"},
            {"node().", "nonode@nohost"},
            {"{small, erlang:system_info(schedulers)}.", "{small,1}"},
            {"{small, erlang:system_info(dirty_io_schedulers)}.", "{small,1}"},
            {"{raised, maps:get(raise_file_limit, portmapper:config())}.", "{raised,true}"}
        ],
        [
            begin
                ok = program:send(Shell, [Question, $\n]),
                program:await(Shell, Answer)
            end
         || {Question, Answer} <- Answers
        ],
        ok = program:send(Shell, "q().\n"),
        ?assertMatch({0, _}, program:await_exit(Shell)),
        ?assertEqual({error, econnrefused}, gen_tcp:connect({127, 0, 0, 1}, Port, []))
    end).

a_taken_port_is_told_in_one_message(Config) ->
    Port = own_vm:free_port(),
    {ok, Listener} = gen_tcp:listen(Port, [{ip, {127, 0, 0, 1}}]),
    Message = io_lib:format(
        "portmapper: cannot listen on 0.0.0.0:~b: the port is in use by beam.smp (pid ~s). "
        "Stop that process, or take another port: make run PORT=~b, ERL_EPMD_PORT=~b in the "
        "environment, or {port, ~b} for the application portmapper\n",
        [Port, os:getpid(), Port + 1, Port + 1, Port + 1]
    ),
    fails_with(Config, integer_to_list(Port), lists:flatten(Message)),
    ok = gen_tcp:close(Listener).

a_wrong_port_is_told_in_one_message(Config) ->
    Message = "portmapper: ERL_EPMD_PORT is \"abc\", expected an integer from 0 to 65535\n",
    fails_with(Config, "abc", Message).

%% The message is the only one, and rebar3 ends with status 1.
fails_with(Config, Port, Message) ->
    {Status, Output} = with_shell(Config, Port, fun program:await_exit/1),
    Text = unicode:characters_to_list(Output),
    ?assertMatch([_, _], string:split(Text, Message, all), Text),
    [Before, After] = string:split(Text, Message),
    ?assertEqual(nomatch, re:run(Before ++ After, "report|crash|exit|reason", [caseless]), Text),
    ?assertMatch({match, _}, re:run(Before, "error: $"), Text),
    ?assertMatch({2, {match, _}}, {Status, re:run(After, "make: .* Error 1\n")}, Text).
