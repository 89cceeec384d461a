import { Server } from "./process.mjs";
import { events } from "./journal.mjs";
import { resolve } from "node:path";
const s = new Server(resolve("../target/debug/inspector-e2e-server"));
await s.prepare(); await s.start(); 
await s.stop(); let t = Date.now(); s.sql([...events(100000)].join("")); console.log("seeded", Date.now()-t); await s.start();
await s.simulate("mp/shop","text",{Content:"please fail"}); await s.simulate("mp/shop","text",{Content:"dead letter"}); await s.simulate("mp/shop","text",{Content:"你好"}); await s.simulate("im/chat","im.command.sns.prev_friend_add");
for (let i=0;i<3;i++) await fetch(`${s.callbacks}/mp/shop?signature=${"0".repeat(40)}&timestamp=${Math.floor(Date.now()/1000)}&nonce=1&msg_signature=${"1".repeat(40)}&encrypt_type=aes`, { method: "POST", body: "<xml><ToUserName>gh_1</ToUserName><Encrypt>AAAA</Encrypt></xml>" });
await fetch(`${s.callbacks}/mp/shop`); await fetch(`${s.callbacks}/wechat?signature=1&nonce=2&timestamp=3`,{method:"POST",body:"x"});
await fetch(`${s.callbacks}/im/chat?SdkAppid=1400000000&CallbackCommand=X`,{method:"POST",body:"{}"});
console.log(s.origin); 
for (const q of ["limit=100","limit=100&type=im.command*","limit=100&state=defaulted&account=mp/shop","limit=100&subject=oUser500&account=im/chat","limit=100&text=message&account=wecom/team","limit=100&text=needle-in"]) { const t=performance.now(); const r = await s.ask("/v1/events?"+q); console.log(q, r.events.length, r.next, Math.round(performance.now()-t),"ms"); }
const c = await s.ask("/v1/catalog"); console.log(c.types.length, JSON.stringify(c).length);
console.log(JSON.stringify(await s.ask("/v1/accounts")).slice(0,900)); console.log(JSON.stringify(await s.ask("/v1/info"))); console.log(JSON.stringify(await s.ask("/v1/refusals")).slice(0,1800));
setTimeout(async()=>{await s.close();process.exit()}, 1000*Number(process.argv[2]??200));
