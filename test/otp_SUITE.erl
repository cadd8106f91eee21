%% `epmd' where Erlang/OTP's own is expected: `erl' starts it, on a port where
%% nobody is.
-module(otp_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([suite/0, all/0]).
-export([
    erl_starts_the_program_that_it_is_told/1,
    a_link_in_the_place_of_the_one_of_otp_is_started/1,
    a_copy_in_the_place_of_the_one_of_otp_is_started/1
]).

suite() ->
    [{timetrap, {seconds, 60}}, {ct_hooks, [release_hook]}].

all() ->
    release_hook:cases(?MODULE).

erl_starts_the_program_that_it_is_told(Config) ->
    Port = ?config(port, Config),
    pings(Port, os:find_executable("erl"), ["-epmd", release:epmd() ++ " -daemon"], []).

a_link_in_the_place_of_the_one_of_otp_is_started(Config) ->
    Link = fun(File) -> file:make_symlink(release:epmd(), File) end,
    Erl = otp(filename:join(?config(priv_dir, Config), "linked"), Link),
    pings(?config(port, Config), Erl, [], []).

a_copy_in_the_place_of_the_one_of_otp_is_started(Config) ->
    Copy = fun(File) ->
        {0, _} = testkit:run(["cp", release:epmd(), File]),
        ok
    end,
    Erl = otp(filename:join(?config(priv_dir, Config), "copied"), Copy),
    pings(?config(port, Config), Erl, [], [{"PORTMAPPER_ROOT", release:root()}]).

%% A node on a cold port is registered, and a second one reaches it.
pings(Port, Erl, Arguments, Variables) ->
    ?assertEqual({1, <<>>}, release:run(Port, ["-started"])),
    Common = [Erl, "-noinput", "-setcookie", "portmapper" | Arguments],
    First = release:start(Port, Common ++ ["-sname", "one@localhost", "-eval", "io:put_chars(\"up\")."], Variables),
    _ = program:await(First, "up"),
    ?assertMatch([<<"name one at port ", _/binary>>], release:names(Port)),
    Ping = "io:format(\"~p~n\", [net_adm:ping('one@localhost')]), halt().",
    Second = Common ++ ["-sname", "two@localhost", "-eval", Ping],
    Environment = [{env, release:environment(Port, Variables)}],
    ?assertEqual({0, <<"pong\n">>}, testkit:run(Second, Environment)),
    %% It is ours, and one.
    ?assertEqual([release:pid(Port)], release:vms(Port)).

%% The installed OTP, in links but for its `epmd' and what tells where it is.
otp(Root, PutEpmd) ->
    Installed = code:root_dir(),
    Erts = "erts-" ++ erlang:system_info(version),
    ErtsBin = filename:join([Root, Erts, "bin"]),
    ok = links(Installed, Root, ["bin", Erts]),
    ok = links(filename:join(Installed, Erts), filename:join(Root, Erts), ["bin"]),
    ok = links(filename:join([Installed, Erts, "bin"]), ErtsBin, ["epmd", "erl"]),
    ok = links(filename:join(Installed, "bin"), filename:join(Root, "bin"), ["erl", "epmd"]),
    ok = PutEpmd(filename:join(ErtsBin, "epmd")),
    Erl = filename:join([Root, "bin", "erl"]),
    {ok, Script} = file:read_file(filename:join([Installed, "bin", "erl"])),
    Moved = re:replace(Script, "^\\s*ROOTDIR=.*$", ["ROOTDIR=\"", Root, "\""], [multiline, global]),
    ok = file:write_file(Erl, Moved),
    ok = file:change_mode(Erl, 8#755),
    Erl.

links(From, To, Except) ->
    ok = filelib:ensure_path(To),
    {ok, Names} = file:list_dir(From),
    lists:foreach(
        fun(Name) -> ok = file:make_symlink(filename:join(From, Name), filename:join(To, Name)) end,
        Names -- Except
    ).
