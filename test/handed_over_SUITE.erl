%% Listening sockets that `epmd' gets from whoever started it, as a service
%% manager hands them over.
-module(handed_over_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([suite/0, all/0]).
-export([
    sockets_of_this_process_are_served/1,
    they_are_served_in_the_background_too/1,
    sockets_of_another_process_are_left_alone/1,
    systemd_without_sockets_is_an_error/1,
    a_descriptor_that_does_not_listen_is_an_error/1,
    a_descriptor_that_is_not_open_is_an_error/1
]).

suite() ->
    [{timetrap, {seconds, 60}}, {ct_hooks, [release_hook]}].

all() ->
    release_hook:cases(?MODULE).

sockets_of_this_process_are_served(Config) ->
    Port = ?config(port, Config),
    [
        begin
            %% The socket says which port it is, not the command line.
            Epmd = start(Config, [listen(Port), "$ENV{LISTEN_PID} = $$; "], Arguments),
            _ = program:await(Epmd, io_lib:format("listens on 127.0.0.1:~b\n", [Port])),
            ?assertEqual([], release:names(Port)),
            {ok, Socket, _Creation} = testkit:register(Port, "n", 4711),
            ?assertEqual([<<"name n at port 4711">>], release:names(Port)),
            ok = gen_tcp:close(Socket),
            {os_pid, Pid} = erlang:port_info(Epmd, os_pid),
            ?assertEqual(integer_to_list(Pid), release:keeper(release:pid(Port))),
            {0, _} = testkit:run(["kill", integer_to_list(Pid)]),
            ?assertMatch({0, _}, program:await_exit(Epmd)),
            ok = release:await_end(Port)
        end
     || Arguments <- [["-port", "1"], ["-systemd"]]
    ].

they_are_served_in_the_background_too(Config) ->
    Port = ?config(port, Config),
    Script = script([listen(Port), "$ENV{LISTEN_PID} = $$; "]),
    ?assertEqual({0, <<>>}, run(Config, Script, ["-daemon"])),
    ?assertEqual([], release:names(Port)).

sockets_of_another_process_are_left_alone(Config) ->
    Port = ?config(port, Config),
    Other = release:port(),
    Epmd = start(Config, [listen(Other), "$ENV{LISTEN_PID} = getppid; "], []),
    _ = program:await(Epmd, io_lib:format("listens on 127.0.0.1:~b", [Port])),
    ?assertEqual([], release:names(Port)).

systemd_without_sockets_is_an_error(Config) ->
    Port = ?config(port, Config),
    [
        begin
            Expected = {1, <<"epmd: systemd provides no sockets\n">>},
            ?assertEqual(Expected, release:run(Port, Arguments)),
            ?assertEqual(Expected, release:run(Port, Arguments, [{"LISTEN_FDS", "1"}]))
        end
     || Arguments <- [["-systemd"], ["-systemd", "-daemon"]]
    ],
    ok = release:await_end(Port).

a_descriptor_that_does_not_listen_is_an_error(Config) ->
    [
        begin
            Expected = <<"descriptor 3 is not a TCP socket that listens">>,
            Script = script(["$ENV{LISTEN_PID} = $$; ", Open]),
            {1, Output} = run(Config, Script, Arguments),
            ?assertNotEqual(nomatch, string:find(Output, Expected), Output)
        end
     || Arguments <- [[], ["-daemon"]],
        Open <- [
            "open($s, '<', '/dev/null'); ",
            "socket($s, AF_INET, SOCK_STREAM, 0); ",
            "socket($s, AF_INET, SOCK_DGRAM, 0); "
        ]
    ],
    ok = release:await_end(?config(port, Config)).

a_descriptor_that_is_not_open_is_an_error(Config) ->
    [
        begin
            {1, Output} = run(Config, script("$ENV{LISTEN_PID} = $$; "), Arguments),
            ?assertNotEqual(nomatch, string:find(Output, <<"descriptor 3 ">>), Output)
        end
     || Arguments <- [[], ["-daemon"]]
    ],
    ok = release:await_end(?config(port, Config)).

%% As a service manager: the first descriptor behind the standard streams.
listen(Port) ->
    io_lib:format(
        "socket($s, AF_INET, SOCK_STREAM, 0) or die; "
        "setsockopt($s, SOL_SOCKET, SO_REUSEADDR, pack('l', 1)) or die; "
        "bind($s, sockaddr_in(~b, INADDR_LOOPBACK)) or die; listen($s, 100) or die; ",
        [Port]
    ).

script(Prepare) ->
    lists:flatten([
        "use Socket; $^F = 9; use POSIX; POSIX::close($_) for 3 .. 9; $ENV{LISTEN_FDS} = 1; ",
        Prepare,
        "exec($ENV{EPMD}, @ARGV)"
    ]).

start(Config, Prepare, Arguments) ->
    release:start(?config(port, Config), ["perl", "-e", script(Prepare), "--" | Arguments], []).

run(Config, Script, Arguments) ->
    Environment = [{env, release:environment(?config(port, Config))}],
    testkit:run(["timeout", "20", "perl", "-e", Script, "--" | Arguments], Environment).
