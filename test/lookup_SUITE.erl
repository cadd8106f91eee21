%% What look-ups of names tell.
-module(lookup_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([suite/0, all/0, init_per_testcase/2, end_per_testcase/2]).
-export([
    lookup_returns_every_field/1,
    lookup_tells_the_peer_over_ipv6/1,
    lookup_tells_the_holder/1,
    lookup_without_the_holder_is_fast/1,
    lookup_names_a_wrong_option/1,
    lookup_takes_any_form_of_a_name/1,
    lookup_of_no_name_finds_nothing/1
]).

suite() ->
    [{timetrap, {seconds, 60}}].

all() ->
    [Case || {Case, 1} <- ?MODULE:module_info(exports), Case =/= module_info].

init_per_testcase(_Case, Config) ->
    [{port, own_vm:start()} | Config].

end_per_testcase(_Case, _Config) ->
    own_vm:stop().

port(Config) ->
    proplists:get_value(port, Config).

%% A connection on which a name is registered.
node(Config, Name, NodePort) ->
    {ok, Socket, _} = testkit:register(port(Config), Name, NodePort),
    Socket.

lookup_returns_every_field(Config) ->
    Name = <<"näm"/utf8>>,
    Extra = <<0, 255, "odd">>,
    Before = erlang:system_time(millisecond),
    Socket = testkit:connect(port(Config)),
    Lengths = {byte_size(Name), byte_size(Extra)},
    Alive2 = alive2(65535, 200, 9, 7, 3, Lengths, Name, Extra),
    ok = gen_tcp:send(Socket, [<<(byte_size(Alive2)):16>>, Alive2]),
    {ok, <<$v, 0, Creation:32>>} = gen_tcp:recv(Socket, 6),
    {ok, Peer} = inet:sockname(Socket),
    {ok, #{since := Since} = Node} = portmapper:lookup(Name),
    ?assert(Before =< Since andalso Since =< erlang:system_time(millisecond)),
    ?assert(abs(Creation - Since div 1000) =< 2),
    Expected = #{
        name => Name,
        port => 65535,
        type => 200,
        protocol => 9,
        highest_version => 7,
        lowest_version => 3,
        extra => Extra,
        creation => Creation,
        since => Since,
        peer => Peer
    },
    ?assertEqual({ok, Expected}, portmapper:lookup(Name, #{holder => false})),
    ?assertEqual(Expected#{holder => this_vm()}, Node).

%% As the holder of a name.
this_vm() ->
    {0, User} = testkit:run(["id", "-un"]),
    Pid = list_to_integer(os:getpid()),
    #{pid => Pid, program => <<"beam.smp">>, user => string:trim(User)}.

lookup_tells_the_holder(Config) ->
    %% A process that is no node, and names its port first.
    Script =
        "import socket, sys\n"
        "node = socket.create_connection(('127.0.0.1', int(sys.argv[1])))\n"
        "node.sendall(b'\\0\\x10x\\0\\1M\\0\\0\\6\\0\\5\\0\\3odd\\0\\0')\n"
        "sys.stdin.read()\n",
    Arguments = ["-c", Script, integer_to_list(port(Config))],
    Python = open_port({spawn_executable, os:find_executable("python3")}, [{args, Arguments}]),
    {os_pid, Pid} = erlang:port_info(Python, os_pid),
    ok = testkit:wait_until(fun() -> portmapper:count() =:= 1 end),
    #{user := User} = this_vm(),
    {ok, #{holder := Holder}} = portmapper:lookup("odd"),
    ?assertMatch(#{pid := Pid, program := <<"python3", _/binary>>, user := User}, Holder),
    true = port_close(Python),
    {ok, _} = portmapper:register("own", 1),
    {ok, #{holder := Own}} = portmapper:lookup("own", #{holder => true}),
    ?assertEqual(this_vm(), Own),
    ?assertEqual({error, not_found}, portmapper:lookup("nobody")).

lookup_without_the_holder_is_fast(Config) ->
    _ = node(Config, "n", 1),
    Each = fun(Options, Times) ->
        LookUp = fun(_) -> {ok, _} = portmapper:lookup("n", Options) end,
        {Microseconds, ok} = timer:tc(lists, foreach, [LookUp, lists:seq(1, Times)]),
        Microseconds / Times
    end,
    {Fast, Full} = {Each(#{holder => false}, 100_000), Each(#{}, 100)},
    ct:pal("a look-up takes ~.3f us, and ~.1f us with the holder", [Fast, Full]),
    ?assert(Fast < 20).

lookup_names_a_wrong_option(_Config) ->
    Wrong = [
        {#{holder => 1}, holder, 1, <<"true or false">>},
        {#{hodler => true}, hodler, true, <<"holder">>},
        {#{holder => true, x => y}, x, y, <<"holder">>}
    ],
    [
        ?assertEqual(
            {error, {bad_option, #{key => Key, value => Value, expected => Expected}}},
            portmapper:lookup("n", Options)
        )
     || {Options, Key, Value, Expected} <- Wrong
    ],
    ok.

alive2(Port, Type, Protocol, Highest, Lowest, {NameLength, ExtraLength}, Name, Extra) ->
    Fields = <<$x, Port:16, Type, Protocol, Highest:16, Lowest:16>>,
    <<Fields/binary, NameLength:16, Name/binary, ExtraLength:16, Extra/binary>>.

lookup_tells_the_peer_over_ipv6(Config) ->
    Loopback = {0, 0, 0, 0, 0, 0, 0, 1},
    case gen_tcp:connect(Loopback, port(Config), [binary, inet6, {active, false}]) of
        {ok, Socket} ->
            Alive2 = iolist_to_binary(testkit:alive2("six")),
            ok = gen_tcp:send(Socket, [<<(byte_size(Alive2)):16>>, Alive2]),
            {ok, <<$v, 0, _:32>>} = gen_tcp:recv(Socket, 6),
            {ok, {Loopback, _} = Peer} = inet:sockname(Socket),
            ?assertMatch({ok, #{peer := Peer}}, portmapper:lookup("six"));
        {error, _} ->
            {skip, "this host has no IPv6"}
    end.

lookup_takes_any_form_of_a_name(Config) ->
    _ = node(Config, <<"plain">>, 1),
    _ = node(Config, <<"nöde漢"/utf8>>, 2),
    Forms = [
        {1, ["plain", <<"plain">>, plain, ["pl", <<"ai">>, $n]]},
        {2, ["nöde漢", <<"nöde漢"/utf8>>, 'nöde漢', [<<"nöde"/utf8>>, "漢"]]}
    ],
    [
        ?assertMatch({Form, {ok, #{port := Port}}}, {Form, portmapper:lookup(Form)})
     || {Port, Names} <- Forms, Form <- Names
    ],
    ok.

lookup_of_no_name_finds_nothing(Config) ->
    _ = node(Config, "there", 1),
    Names = [
        "missing", "", "ther", "There", <<"there", 0>>, '', lists:duplicate(256, $n),
        lists:duplicate(100_000, $n), <<255>>, <<"there", 16#c3>>, <<16#ed, 16#a0, 16#80>>
    ],
    [
        ?assertEqual({Function, Name, {error, not_found}}, {Function, Name, portmapper:Function(Name)})
     || Name <- Names, Function <- [lookup, unregister, drop]
    ],
    ?assertEqual(1, portmapper:count()).
